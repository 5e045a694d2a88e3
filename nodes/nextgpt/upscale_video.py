"""Upscale video: a film is drawn over again at a larger size, as zeroscope XL does with one of zeroscope 576w."""

from __future__ import annotations

from graph_engine import Conditioning, Decoder, Effect, Needs, NodeContext, Video, node
from nodes.nextgpt.caption_route import reads
from nodes.nextgpt.decode_image import CATEGORY, pixels
from nodes.nextgpt.decode_video import latent_to_video, video_to_latent
from nodes.nextgpt.denoise import Sampling, Side, Strength, of_modality, sample, sampling_inputs
from nodes.nextgpt.load import CATEGORY as LOADERS
from nodes.nextgpt.load import VERSION
from nodes.nextgpt.preset import PresetName
from nodes.nextgpt.working import redrawing, steps


@node(id="nextgpt.load_upscaler", version=VERSION, category=LOADERS, reads=reads)
def load_upscaler(context: NodeContext, preset: PresetName = "tiny") -> Decoder:
    """The video decoder for `nextgpt.upscale_video`: zeroscope XL. Conditions for the video decoder fit it, too."""
    from nodes.nextgpt.checkpoint import specs_of

    return next(iter(specs_of(preset, ["video_upscaler"], context.models_dir)))


@node(
    id="nextgpt.upscale_video",
    version="1.1.0",
    category=CATEGORY,
    effect=Effect.SEEDED,
    needs=Needs(device=True, working_bytes=redrawing, passes=steps),
)
@sampling_inputs
def upscale_video(
    context: NodeContext,
    video: Video,
    condition: Conditioning,
    decoder: Decoder,
    sampling: Sampling,
    width: Side = 0,
    height: Side = 0,
    strength: Strength = 0.6,
) -> Video:
    """Draw a video over again, larger and with more detail: VIDEO at the decoder's own size, 1024x576 for zeroscope XL.

    The frames are scaled up (bicubic), encoded, noised by `strength` and denoised towards the condition "1 77 width", for
    which the one that made the video will do. Sides of 0 are the decoder's own. Rate and sound of the video are kept.
    """
    from nodes.media.image_scale import scale

    tall, wide = pixels(of_modality(decoder, "video"), width, height) or decoder.config["size"]
    large = {**video, "frames": scale(video["frames"], wide, tall, "bicubic")}
    start = video_to_latent(context, large, decoder)
    latent = sample(context, "video", condition, decoder, sampling, latent=start, strength=strength)
    made = latent_to_video(context, latent, decoder, video["fps"])
    return {**made, "audio": video.get("audio")}
