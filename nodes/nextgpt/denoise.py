"""What the decode nodes of all modalities share: the denoise loop with progress, previews and a way out."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from graph_engine import NodeContext, NodeError, Widget
from graph_engine.errors import Cancelled
from graph_engine.graph.kinds import CONDITIONING, LATENT
from nodes.control.seed import MAX_SEED
from nodes.nextgpt.load import lease
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.refusal import refusals

Scheduler = Literal[
    "ddim", "ddpm", "euler", "euler_ancestral", "heun", "lms", "pndm", "dpmpp_2m", "dpmpp_2m_karras", "unipc"
]
Seed = Annotated[int, Widget(min=0, max=MAX_SEED, step=1, control="seed")]
Steps = Annotated[int, Widget(min=0, max=500)]
Guidance = Annotated[float, Widget(min=0, max=50, step=0.1)]
Side = Annotated[int, Widget(min=0, max=4096, step=8)]
Frames = Annotated[int, Widget(min=0, max=512)]
Seconds = Annotated[float, Widget(min=0, max=600, step=0.1)]
Strength = Annotated[float, Widget(min=0.01, max=1, step=0.01)]
Negative = Annotated[Any, CONDITIONING]
Start = Annotated[Any, LATENT]

PREVIEW_EVERY_S = 0.3
PREVIEW_SIDE = 256
"""Previews are at most this large and at most this frequent."""


def sample(
    context: NodeContext,
    modality: str,
    condition: Any,
    decoder: Any,
    *,
    negative: Any = None,
    steps: int = 0,
    guidance: float = 0.0,
    seed: int = 0,
    scheduler: str = "ddim",
    latent: Any = None,
    strength: float = 1.0,
    **extent: Any,
) -> Any:
    """LATENT of one condition; 0 means the decoder's own number of steps, guidance, size or length.

    extent: `size`, `frames` or `seconds`, as the decoder's module takes them; None is its own. Can be cancelled
    between steps.
    """
    module = lease(context, of_modality(decoder, modality))
    with refusals("bad_condition", "condition"), cancellable():
        samples = hand(modality).sample(
            module,
            joined(condition, "condition").to(context.device),
            None if negative is None else joined(negative, "negative").to(context.device),
            steps=steps or None,
            guidance=guidance or None,
            seed=seed,
            scheduler=scheduler,
            latent=None if latent is None else latent["samples"].to(context.device),
            strength=strength,
            on_step=reporter(context),
            cancelled=lambda: context.cancelled,
            **extent,
        )
    return {"samples": samples.float().cpu(), "modality": modality}


def hand(modality: str) -> Any:
    """The module under `model/` with `sample` and `decode` of this modality."""
    return SPOKEN[modality].implementation()


def of_modality(decoder: Any, modality: str) -> Any:
    """`decoder`, once it is known to make this modality."""
    if decoder.family != SPOKEN[modality].decoder and decoder.config.get("modality") != modality:
        raise NodeError(
            f"this decoder is a {decoder.family}, which makes no {SPOKEN[modality].noun}.",
            remedy=f"Link a decoder of the family {SPOKEN[modality].decoder}.",
            code="wrong_modality",
            port="decoder",
        )
    return decoder


def joined(conditioning: Any, port: str) -> Any:
    """All conditions of a CONDITIONING as one batch "B rows width"."""
    import torch

    tensors = [tensor for tensor, _ in conditioning]
    if not tensors or len({tuple(tensor.shape[1:]) for tensor in tensors}) > 1:
        shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in tensors) or "none"
        raise NodeError(
            f"the conditions cannot be decoded together: their shapes are {shapes}.",
            remedy="Link the output of nextgpt.project_out.",
            code="bad_condition",
            port=port,
        )
    return torch.cat(tensors)


@contextmanager
def cancellable() -> Iterator[None]:
    """A loop that was asked to stop ends as a cancelled job."""
    from nodes.nextgpt.model.sampling import Cancelled as Stopped

    try:
        yield
    except Stopped as error:
        raise Cancelled() from error


def reporter(context: NodeContext) -> Callable[[int, int, Any], None]:
    """Called after every step: tells progress, and now and then shows what is there so far."""
    last = time.monotonic()

    def report(done: int, total: int, latent: Any) -> None:
        nonlocal last
        context.progress(done, total)
        now = time.monotonic()
        if done < total and now - last >= PREVIEW_EVERY_S:
            last = now
            context.preview(_picture(latent), "image/png")

    return report


def _picture(latent: Any) -> bytes:
    from PIL import Image

    from nodes.nextgpt.model.sampling import preview_rgb

    picture = Image.fromarray(preview_rgb(latent).numpy())
    scale = max(1, min(8, PREVIEW_SIDE // max(picture.size)))
    file = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BILINEAR).save(file, "PNG")
    return file.getvalue()
