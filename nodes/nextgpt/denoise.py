"""What the decode nodes of all modalities share: how to denoise, the loop with progress, previews and a way out."""

from __future__ import annotations

import functools
import inspect
import io
import math
import time
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from graph_engine import NodeContext, NodeError, Widget
from graph_engine.errors import Cancelled
from graph_engine.graph.kinds import CONDITIONING, LATENT
from nodes.control.seed import MAX_SEED
from nodes.nextgpt.caption_route import condition_of
from nodes.nextgpt.kernels import Kernels, with_kernels
from nodes.nextgpt.kinds import TextEncoder
from nodes.nextgpt.load import lease
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.refusal import refusals

Scheduler = Literal[
    "ddim",
    "ddpm",
    "euler",
    "euler_ancestral",
    "heun",
    "lms",
    "pndm",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "unipc",
    "lcm",
    # Of older workflows: dpmpp_2m with the spacing karras.
    "dpmpp_2m_karras",
]
Spacing = Literal["default", "karras", "exponential", "beta"]
Seed = Annotated[int, Widget(min=0, max=MAX_SEED, step=1, control="seed")]
Steps = Annotated[int, Widget(min=0, max=500)]
Guidance = Annotated[float, Widget(min=0, max=50, step=0.1)]
Side = Annotated[int, Widget(min=0, max=4096, step=8)]
Frames = Annotated[int, Widget(min=0, max=512)]
Seconds = Annotated[float, Widget(min=0, max=600, step=0.1)]
Strength = Annotated[float, Widget(min=0.01, max=1, step=0.01)]
Negative = Annotated[Any, CONDITIONING]
Start = Annotated[Any, LATENT]

CONTROLS = "controls"
"""What a condition carries beside its rows: ControlNets with their pictures (`nodes.diffusion.controlnet`)."""
PREVIEW_EVERY_S = 0.3
PREVIEW_SIDE = 256
"""Previews are at most this large and at most this frequent."""


@dataclass(frozen=True)
class Sampling:
    """How to denoise. On a node each field is an input of its own (`sampling_inputs`).

    negative        what to move away from when guidance is above 1
    text_encoder    without `negative`, the encoding of "" by this is the negative, as in the original pipelines; without
                    either, zeros are
    steps, guidance 0 is the decoder's own
    scheduler       "default" is the decoder's own
    kernels         which kernels compute: `auto` is the fastest of the device, the others are for comparing
    """

    negative: Negative | None = None
    text_encoder: TextEncoder | None = None
    seed: Seed = 0
    steps: Steps = 0
    guidance: Guidance = 0.0
    scheduler: Literal["default", Scheduler] = "default"
    spacing: Spacing = "default"
    kernels: Kernels = "auto"


OWN = Sampling()
"""All as the decoder has it."""


def sampling_inputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Replace the parameter `sampling: Sampling` by one per field: ports come from signatures."""
    own = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)
    group = typing.get_type_hints(Sampling, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        if parameter.name == "sampling":
            parameters += [
                parameter.replace(name=field.name, default=field.default, annotation=group[field.name])
                for field in fields(Sampling)
            ]
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
    signature = own.replace(parameters=parameters, return_annotation=hints["return"])

    @functools.wraps(function)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        sampling = Sampling(**{name: given.pop(name) for name in group})
        return function(**given, sampling=sampling)

    gathered.__signature__ = signature  # type: ignore[attr-defined]
    gathered.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    gathered.__annotations__["return"] = hints["return"]
    return gathered


def sample(
    context: NodeContext,
    modality: str,
    condition: Any,
    decoder: Any,
    sampling: Sampling = OWN,
    *,
    latent: Any = None,
    strength: float = 1.0,
    **options: Any,
) -> Any:
    """LATENT of one condition. Can be cancelled between steps.

    latent, strength: change this one instead of noise. options: fields of `Sampling` by name, which count more than those
    of `sampling`; `size`, `frames` or `seconds` and what else the decoder's module takes, None being its own.
    """
    named = {field.name for field in fields(Sampling)} & options.keys()
    sampling = replace(sampling, **{name: options.pop(name) for name in named})
    from nodes.nextgpt.model.preview import decoding_of

    of_modality(decoder, modality)
    start = None if latent is None else cells(latent, modality)
    positive = joined(condition, "condition")
    if any(facts.get(CONTROLS) for _, facts in condition):
        raise NodeError(
            "a decoder of NExT-GPT follows no ControlNet.",
            remedy="Take the decoder apart with diffusion.decoder_parts and draw with diffusion.sample.",
            code="bad_condition",
            port="condition",
        )
    if start is not None:
        positive, start = paired(positive, start)
    negative = negative_of(context, sampling, decoder)
    if negative is not None and negative.shape[-1] == positive.shape[-1]:
        positive, negative = even_rows(positive, negative)
    module = lease(context, decoder)

    def draw() -> Any:
        return hand(modality).sample(
            module,
            positive.to(context.device),
            None if negative is None else negative.to(context.device),
            steps=sampling.steps or None,
            guidance=sampling.guidance or None,
            seed=sampling.seed,
            scheduler=None if sampling.scheduler == "default" else sampling.scheduler,
            spacing=sampling.spacing,
            latent=None if start is None else start.to(context.device),
            strength=strength,
            on_step=reporter(context, modality, decoding_of(module, modality)),
            cancelled=lambda: context.cancelled,
            **options,
        )

    with refusals("bad_condition", "condition"), cancellable():
        samples = with_kernels(context, getattr(module, "unet", None), sampling.kernels, draw)
    return {"samples": samples.float().cpu(), "modality": modality}


def negative_of(context: NodeContext, sampling: Sampling, decoder: Any) -> Any:
    """The negative condition "B rows width", or None for zeros: not wanted, or nothing there to make it of."""
    if sampling.negative is not None:
        return joined(sampling.negative, "negative")
    if sampling.text_encoder is None or (sampling.guidance or decoder.config["guidance"]) <= 1:
        return None
    found = condition_of(context, "", sampling.text_encoder)
    wanted = decoder.config["condition"]
    if found.shape[-1] != wanted[-1]:
        raise NodeError(
            f"the text encoder makes conditions {found.shape[-1]} wide, the decoder takes {wanted[-1]}.",
            remedy="Load text encoder and decoder for the same modality from the same preset.",
            code="wrong_width",
            port="text_encoder",
        )
    return found


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


def cells(latent: Any, modality: str) -> Any:
    """The samples of a LATENT, once it is known to be of this modality. Their shape is the decoder's business."""
    meant = latent.get("modality", modality)
    if meant != modality:
        raise NodeError(
            f"the latent is of modality {meant}, this node takes one of {modality}.",
            remedy=f"Link the latent of a {SPOKEN[modality].noun}.",
            code="wrong_modality",
            port="latent",
        )
    return latent["samples"]


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


def paired(condition: Any, latent: Any) -> tuple[Any, Any]:
    """One condition for every latent, or one latent for every condition."""
    conditions, latents = len(condition), len(latent)
    if conditions == 1:
        return condition.expand(latents, *condition.shape[1:]), latent
    if latents == 1:
        return condition, latent.expand(conditions, *latent.shape[1:])
    if conditions != latents:
        raise NodeError(
            f"{conditions} conditions do not fit {latents} latents.",
            remedy="Give one condition, or one for each latent.",
            code="bad_condition",
            port="condition",
        )
    return condition, latent


def even_rows(wanted: Any, opposed: Any) -> tuple[Any, Any]:
    """Both "B rows width" with as many rows, by whole repetitions: attention weighs these as it weighs the condition alone.

    A long text has more rows than a short one, and a linear output projector one for each signal token.
    """
    rows = math.lcm(wanted.shape[1], opposed.shape[1])
    return wanted.repeat(1, rows // wanted.shape[1], 1), opposed.repeat(1, rows // opposed.shape[1], 1)


@contextmanager
def cancellable() -> Iterator[None]:
    """A loop that was asked to stop ends as a cancelled job."""
    from nodes.nextgpt.model.sampling import Cancelled as Stopped

    try:
        yield
    except Stopped as error:
        raise Cancelled() from error


def reporter(context: NodeContext, modality: str = "image", decode: Any = None) -> Callable[[int, int, Any], None]:
    """Called after every step: tells progress, and now and then shows what is there so far.

    A picture is asked for at one step and shown at that one or a later one, when it has come from the device. decode: see
    `model/preview.py`.
    """
    from nodes.nextgpt.model.preview import Glance

    last = time.monotonic()
    glance: Glance | None = None

    def report(done: int, total: int, latent: Any) -> None:
        nonlocal last, glance
        context.progress(done, total)
        now = time.monotonic()
        if glance is None and done < total and now - last >= PREVIEW_EVERY_S:
            last, glance = now, Glance(latent, modality, decode)
        seen = None if glance is None else glance.picture()
        if seen is not None:
            glance = None
            context.preview(_png(seen), "image/png")

    return report


def _png(seen: Any) -> bytes:
    """Of uint8 "h w 3"."""
    from PIL import Image

    picture = Image.fromarray(seen.numpy())
    largest = max(picture.size)
    scale = min(8, PREVIEW_SIDE // largest) if largest <= PREVIEW_SIDE else PREVIEW_SIDE / largest
    size = [max(1, round(side * scale)) for side in picture.size]
    file = io.BytesIO()
    picture.resize((size[0], size[1]), Image.Resampling.BILINEAR).save(file, "PNG")
    return file.getvalue()
