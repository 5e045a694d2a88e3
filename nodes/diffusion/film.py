"""Video by other models than NExT-GPT's: LTX-Video (arXiv 2501.00103) and AnimateDiff (arXiv 2307.04725)."""

from __future__ import annotations

from typing import Annotated

from graph_engine import Effect, Needs, NodeContext, Video, Widget, node
from nodes.diffusion import bundle
from nodes.diffusion.kinds import VideoModel
from nodes.diffusion.latent import Side
from nodes.diffusion.load import CATEGORY, Name
from nodes.diffusion.sound import Prompt
from nodes.diffusion.working import filming, parts
from nodes.nextgpt.denoise import Guidance, Seed
from nodes.nextgpt.refusal import refusals

KINDS = {"LTXPipeline": "", "AnimateDiffPipeline": ""}
Count = Annotated[int, Widget(min=1, max=512)]


@node(id="diffusion.load_video", version="1.1.0", title="Load video model", category=CATEGORY, reads=bundle.reads)
def load_video(context: NodeContext, name: Name) -> VideoModel:
    """LTX-Video or AnimateDiff (a diffusers folder with everything in it), from the models folder."""
    return bundle.load(name, context.models_dir, KINDS, "video model", dtype="")


@node(
    id="diffusion.generate_video",
    category=CATEGORY,
    effect=Effect.SEEDED,
    needs=Needs(device=True, working_bytes=filming, models=parts("model")),
)
def generate_video(
    context: NodeContext,
    model: VideoModel,
    text: Prompt,
    negative: Prompt = "",
    width: Side = 512,
    height: Side = 512,
    frames: Count = 16,
    fps: Annotated[float, Widget(min=1, max=60)] = 8.0,
    steps: Annotated[int, Widget(min=1, max=500)] = 25,
    guidance: Guidance = 3.0,
    seed: Seed = 0,
) -> Video:
    """A film for a text: VIDEO "F H W 3". LTX makes 8n+1 frames with sides of multiples of 32; others are refused."""
    pipe = bundle.pipeline(context, model)
    more = {"frame_rate": round(fps)} if model.config["kind"] == "LTXPipeline" else {}
    with refusals("bad_size", "width"):
        if more and (frames % 8 != 1 or width % 32 or height % 32):
            raise ValueError(
                f"{frames} frames of {width}x{height}; LTX takes 8n+1 frames and sides that are multiples of 32"
            )
        found = pipe(
            prompt=text,
            negative_prompt=negative,
            width=width,
            height=height,
            num_frames=frames,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=context.rng(seed),
            output_type="pt",
            callback_on_step_end=bundle.step_reporter(context, steps),
            **more,
        ).frames
    pictures = found[0].float().cpu().clamp(0, 1).permute(0, 2, 3, 1).contiguous()
    return {"frames": pictures, "fps": float(fps), "audio": None}
