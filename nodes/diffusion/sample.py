"""Sample: noise, or a latent made noisy, to a latent that follows the conditions."""

from __future__ import annotations

from typing import Annotated, Any

from graph_engine import Conditioning, Effect, Latent, Needs, NodeContext, NodeError, Widget, node
from nodes.diffusion.architecture import ARCHITECTURES
from nodes.diffusion.controlnet import controls, entries
from nodes.diffusion.kinds import Model
from nodes.diffusion.latent import FACTOR
from nodes.diffusion.load import CATEGORY, lease
from nodes.diffusion.working import denoisers, sampling
from nodes.nextgpt.denoise import (
    Guidance,
    Negative,
    Scheduler,
    Seed,
    Spacing,
    Strength,
    cancellable,
    even_rows,
    joined,
    reporter,
)
from nodes.nextgpt.kernels import Kernels, with_kernels
from nodes.nextgpt.refusal import refusals
from nodes.nextgpt.working import denoiser_passes

INPAINTING = 9
"""Channels of a denoiser for inpainting: the latent, the mask, the latent of what is kept."""


@node(
    id="diffusion.sample",
    version="1.1.0",
    category=CATEGORY,
    effect=Effect.SEEDED,
    needs=Needs(device=True, working_bytes=sampling, passes=denoiser_passes, models=denoisers),
)
def sample(
    context: NodeContext,
    model: Model,
    positive: Conditioning,
    latent: Latent,
    negative: Negative | None = None,
    seed: Seed = 0,
    steps: Annotated[int, Widget(min=1, max=500)] = 20,
    guidance: Guidance = 7.5,
    scheduler: Scheduler = "dpmpp_2m",
    spacing: Spacing = "default",
    strength: Strength = 1.0,
    kernels: Kernels = "auto",
) -> Latent:
    """Draw: text to picture on an empty latent, picture to picture on another one, inpainting on one with a mask.

    positive: what to draw, from `encode_text` or from `nextgpt.project_out`, with what `apply_controlnet` adds. negative: what
    to move away from when guidance is above 1; without it, a condition of zeros. scheduler, spacing: how a step is taken, and
    where the steps stop ("default": as the checkpoint's own scheduler, where it says so). strength: how much of an existing
    latent is given up. kernels: which kernels compute; `auto` is the fastest of the device, the others are for comparing.
    """
    import torch

    from nodes.diffusion.lora import patched_unet
    from nodes.diffusion.model.denoise import Inpainting, Sizes
    from nodes.diffusion.model.denoise import sample as draw
    from nodes.nextgpt.model.diffusion_config import TrainingSchedule

    given = latent["samples"]
    wanted, opposed = _condition(positive, model, "positive"), None
    if negative is not None:
        wanted, opposed = even_rows(wanted, _condition(negative, model, "negative"))
    _fit_latent(given, model)
    count = given.shape[0]
    helpers = entries(positive, negative, model, count)
    unet = patched_unet(context, lease(context, model), model)
    like = next(unet.parameters())
    place = {"device": like.device, "dtype": like.dtype}
    sizes = None
    if model.extras["architecture"] == "sdxl":
        cells = (given.shape[2] * FACTOR, given.shape[3] * FACTOR)
        sizes = Sizes(
            _pooled(positive, model, "positive", count).to(**place),
            None if negative is None else _pooled(negative, model, "negative", count).to(**place),
            _time_ids(positive, cells, count, place),
            _time_ids(positive if negative is None else negative, cells, count, place),
        )
    mask = latent.get("noise_mask")
    inpainting = None
    if mask is not None:
        kept = latent.get("masked_samples")
        inpainting = Inpainting(
            given.to(**place), mask.expand(count, -1, -1, -1).to(**place), None if kept is None else kept.to(**place)
        )
    if model.config["in_channels"] == INPAINTING and (inpainting is None or inpainting.kept is None):
        raise NodeError(
            "this model is for inpainting and needs a picture with a mask.",
            remedy="Link the latent of diffusion.encode_inpaint.",
            code="bad_latent",
            port="latent",
        )
    start = None if latent.get("empty") or (inpainting is not None and strength == 1.0) else given.to(**place)

    def made() -> Any:
        return draw(
            unet,
            _batch(wanted, count, "positive").to(**place),
            None if opposed is None else _batch(opposed, count, "negative").to(**place),
            tuple(given.shape),
            TrainingSchedule(**model.extras["schedule"]),
            steps=steps,
            guidance=guidance,
            seed=seed,
            scheduler=scheduler,
            spacing=spacing,
            latent=start,
            strength=strength,
            sizes=sizes,
            inpainting=inpainting,
            controls=nets,
            on_step=reporter(context),
            cancelled=lambda: context.cancelled,
        )

    nets = controls(context, helpers, given)
    with refusals("bad_condition", "positive"), cancellable(), torch.no_grad():
        samples = with_kernels(context, unet, kernels, made)
    return {"samples": samples.float().cpu(), "modality": "image"}


def _condition(conditioning: Any, model: Any, port: str) -> Any:
    """All conditions as one batch "B rows width", once they are known to be of the model's width."""
    condition = joined(conditioning, port)
    width, wanted = condition.shape[-1], model.config["cross_attention_dim"]
    if condition.ndim != 3 or width != wanted:
        title = ARCHITECTURES[model.extras["architecture"]].title
        shape = "x".join(map(str, condition.shape))
        raise NodeError(
            f"the condition is {shape}, this {title} model takes rows of {wanted}.",
            remedy="Encode the text with the CLIP of the same checkpoint, or project signals to that width.",
            code="wrong_width",
            port=port,
        )
    return condition


def _batch(condition: Any, count: int, port: str) -> Any:
    """One condition for every latent."""
    if condition.shape[0] not in (1, count):
        raise NodeError(
            f"{condition.shape[0]} conditions do not fit {count} latents.",
            remedy="Make the batch of the latent as large as the number of conditions.",
            code="bad_condition",
            port=port,
        )
    return condition.expand(count, *condition.shape[1:])


def _fit_latent(samples: Any, model: Any) -> None:
    channels = model.config["out_channels"]
    if samples.ndim != 4 or samples.shape[1] != channels:
        raise NodeError(
            f"the latent is {'x'.join(map(str, samples.shape))}, the model draws batches of {channels} channels.",
            remedy="Link diffusion.empty_latent, or encode the picture with the VAE of the same checkpoint.",
            code="bad_latent",
            port="latent",
        )


def _pooled(conditioning: Any, model: Any, port: str, count: int) -> Any:
    """The summary "B width" of the text, which SDXL wants beside the rows."""
    import torch

    found = [facts.get("pooled_output") for _, facts in conditioning]
    if any(summary is None for summary in found):
        raise NodeError(
            "SDXL needs the summary of a text, which this condition does not have.",
            remedy="Encode the text with the CLIP of an SDXL checkpoint; conditions of NExT-GPT fit SD 1.x and 2.x.",
            code="bad_condition",
            port=port,
        )
    return _batch(torch.cat(found), count, port)


def _time_ids(conditioning: Any, cells: tuple[int, int], count: int, place: Any) -> Any:
    """Six numbers: the size the picture had, where it was cropped, the size it has (arXiv 2307.01952, section 2.2)."""
    import torch

    rows = []
    for _, facts in conditioning:
        height, width = facts.get("height", cells[0]), facts.get("width", cells[1])
        rows.append([height, width, 0, 0, *cells])
    return _batch(torch.tensor(rows, **place), count, "positive")
