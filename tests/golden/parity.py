"""Our networks against outputs of the original ones: `python -m tests.golden.parity DIR`.

DIR holds ImageBind (`imagebind.weights.safetensors`, `imagebind.io.safetensors`), projectors (`projectors.safetensors`) or
both, as data/README.md says. All sizes come from the files: widths, depths and counts from the shapes, heads and strides
from the metadata. Prints the largest relative error of each entry; exits 1 if one is above 1e-4 and 2 if DIR holds no such
files. The tests of this folder run the same checks on data/.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nodes.nextgpt.model.imagebind import NEXTGPT_SCALED, ImageBind, published_state
from nodes.nextgpt.model.imagebind_config import MODALITIES, ImageBindConfig, TrunkSize
from nodes.nextgpt.model.input_projector import CURRENT_PREFIX, LEGACY_PREFIX, InputProjector, InputProjectorConfig
from nodes.nextgpt.model.output_projector import (
    CURRENT_PREFIXES,
    LEGACY_PREFIXES,
    OutputProjector,
    OutputProjectorConfig,
    canonical_state,
)

TOLERANCE = 1e-4
WEIGHTS, IO, PROJECTORS = "imagebind.weights.safetensors", "imagebind.io.safetensors", "projectors.safetensors"
FLAVOURS = {"legacy": "global", "patch": "patch"}
PREFIXES = (LEGACY_PREFIX, CURRENT_PREFIX, *LEGACY_PREFIXES.values(), *CURRENT_PREFIXES.values())
NORM_ENDINGS = ("norm1.weight", "norm2.weight", "norm3.weight", "norm.weight")

Checks = dict[str, Callable[[], float]]
Shapes = Mapping[str, Sequence[int]]


class NotAReference(Exception):
    """The folder or a file in it is not of the described form; the text says what is wrong where."""


def checks(folder: Path) -> Checks:
    """A name and a function that gives the relative error, for every recorded output. Raises NotAReference."""
    has = {name for name in (WEIGHTS, IO, PROJECTORS) if (folder / name).is_file()}
    if not has:
        raise NotAReference(f"{folder} holds neither {WEIGHTS} with {IO} nor {PROJECTORS}")
    found: Checks = {}
    if has & {WEIGHTS, IO}:
        if not has >= {WEIGHTS, IO}:
            raise NotAReference(f"{folder} holds one of {WEIGHTS} and {IO}, which belong together")
        found |= imagebind_checks(folder)
    if PROJECTORS in has:
        found |= projector_checks(folder / PROJECTORS)
    if not found:
        raise NotAReference(f"{folder} holds no recorded output")
    return found


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest difference by largest value; infinite for another shape."""
    if ours.shape != reference.shape:
        return math.inf
    return float((ours - reference).abs().max() / reference.abs().max().clamp_min(1e-30))


# --- ImageBind --------------------------------------------------------------------------------------------------------


def imagebind_checks(folder: Path) -> Checks:
    """One check per `output.FLAVOUR.INPUT`."""
    recorded, _ = read(folder / IO)
    outputs = sorted(key for key in recorded if key.startswith("output."))
    for key in outputs:
        _, flavour, name = key.split(".", 2) if key.count(".") == 2 else (key, "", "")
        if flavour not in FLAVOURS or f"input.{name}" not in recorded or _trunk(name) not in MODALITIES:
            raise NotAReference(
                f"{IO}: {key} is no output.legacy.NAME or output.patch.NAME with an input.NAME beside it"
            )
    encoder = cache(lambda: load_encoder(folder))
    return {f"imagebind {key[7:]}": lambda key=key: imagebind_error(encoder(), recorded, key) for key in outputs}  # type: ignore[misc]


@torch.no_grad()
def imagebind_error(encoder: ImageBind, recorded: Mapping[str, Tensor], key: str) -> float:
    """The relative error of one recorded output."""
    _, flavour, name = key.split(".")
    trunk, value, reference = _trunk(name), recorded[f"input.{name}"], recorded[key].float()
    kind: Any = FLAVOURS[flavour]
    ours = encoder.encode(trunk, value if trunk == "text" else value.float(), kind=kind, scale=trunk in NEXTGPT_SCALED)
    return relative_error(ours[:, 0] if reference.ndim == 2 else ours, reference)


def load_encoder(folder: Path) -> ImageBind:
    """The recorded encoder: our modules filled from the file, every key accounted for."""
    weights, metadata = read(folder / WEIGHTS)
    inputs, _ = read(folder / IO)
    stated = metadata_entry(metadata, "config", WEIGHTS)
    config = imagebind_config({key: value.shape for key, value in weights.items()}, stated, inputs)
    with torch.device("meta"):
        encoder = ImageBind(config)
    encoder.load_state_dict(published_state({key: _wide(value) for key, value in weights.items()}), assign=True)
    return encoder.eval()


def imagebind_config(shapes: Shapes, stated: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> ImageBindConfig:
    """The sizes of a state dict; only heads, strides and the length of an IMU window have to be stated."""
    given: dict[str, Any] = {}
    present = tuple(name for name in MODALITIES if f"modality_trunks.{name}.blocks.0.norm_1.weight" in shapes)
    for name in present:
        trunk, stem = f"modality_trunks.{name}.blocks.", f"modality_preprocessors.{name}."
        width = shapes[f"{trunk}0.norm_1.weight"][0]
        blocks = len({key.removeprefix(trunk).split(".")[0] for key in shapes if key.startswith(trunk)})
        given[name] = TrunkSize(width, blocks, stated[f"{name}_num_heads"])
        given["mlp_ratio"] = shapes[f"{trunk}0.mlp.fc1.weight"][0] // width
        head = "proj.1" if name == "text" else "3" if name == "imu" else "2"
        given["out_dim"] = shapes[f"modality_heads.{name}.{head}.weight"][0]
        if name == "text":
            given["text_vocabulary"] = shapes[f"{stem}token_embedding.weight"][0]
            given["text_length"] = shapes[f"{stem}pos_embed"][1]
        elif name == "imu":
            window = stated.get("imu_kernel_size", 8)
            given["imu_window"] = window
            given["imu_channels"] = shapes[f"{stem}imu_stem.proj.weight"][1] // window
            given["imu_samples"] = (shapes[f"{stem}pos_embed"][1] - 1) * window
        elif name == "audio":
            given["audio_patch"] = shapes[f"{stem}rgbt_stem.proj.weight"][-1]
            given["audio_stride"] = stated.get("audio_stride", 10)
            if "input.audio" in inputs:
                given["mel_bins"], given["audio_frames"] = inputs["input.audio"].shape[-2:]
        else:
            kernel = {"vision": "rgbt_stem.proj.1", "depth": "depth_stem.proj"}.get(name, "rgbt_stem.proj")
            patch = shapes[f"{stem}{kernel}.weight"][-1]
            given["vision_patch" if name == "vision" else "plane_patch"] = patch
            if name == "vision":
                given["vision_frames"] = shapes[f"{stem}{kernel}.weight"][2]
            side = patch * math.isqrt(shapes[f"{stem}pos_embedding_helper.pos_embed"][1] - 1)
            if given.setdefault("image_size", side) != side:
                raise NotAReference(f"{WEIGHTS}: {name} takes pictures of {side} pixels, another {given['image_size']}")
    return ImageBindConfig(**given, modalities=present)


def _trunk(name: str) -> str:
    return "vision" if name == "video" else name


# --- projectors -------------------------------------------------------------------------------------------------------


def projector_checks(path: Path) -> Checks:
    """One check per `NAME.output`."""
    recorded, metadata = read(path)
    names = sorted(key.removesuffix(".output") for key in recorded if key.endswith(".output"))
    for name in names:
        metadata_entry(metadata, name, path.name)
        if f"{name}.input.0" not in recorded:
            raise NotAReference(f"{path.name}: {name}.output has no {name}.input.0 beside it")
    return {f"projector {name}": lambda name=name: projector_error(recorded, metadata, name) for name in names}  # type: ignore[misc]


@torch.no_grad()
def projector_error(recorded: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> float:
    """The relative error of one projector.

    An output projector has queries, or two inputs: states of the signal tokens and their embeddings. An input projector
    has neither.
    """
    stated = metadata_entry(metadata, name, PROJECTORS)
    prefix = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in stated["keys"])), "")
    shapes: Shapes = {key.removeprefix(prefix): shape for key, shape in stated["keys"].items()}
    inputs = [recorded[key].float() for key in sorted(recorded) if key.startswith(f"{name}.input.")]
    reference = recorded[f"{name}.output"].float()
    if "query_embs" not in shapes and len(inputs) == 1:
        project_in = InputProjector(InputProjectorConfig.of_shapes(shapes, stated.get("heads", 8))).eval()
        project_in.load_state_dict(formula_state(shapes))
        return relative_error(project_in(*inputs), reference)
    hidden, embeds = inputs if len(inputs) == 2 else (inputs[0], torch.zeros_like(inputs[0]))
    config = OutputProjectorConfig.of_shapes(canonical_state(shapes), stated.get("heads"), reference.shape[1])
    project_out = OutputProjector(config).eval()
    project_out.load_state_dict(canonical_state(formula_state(shapes)))
    return relative_error(project_out(hidden, embeds), reference)


def formula_state(shapes: Shapes) -> dict[str, Tensor]:
    """The weights, which no file holds: 0.05 sin(0.7 i + 0.3 k) cos(0.011 i) for the k-th key, plus 1 for norm scales."""
    state = {}
    i = torch.arange(max(math.prod(shape) for shape in shapes.values()), dtype=torch.float64)
    # sin(a + b) = sin a cos b + cos a sin b, so that the tables are made once for all 50 million weights.
    sine, cosine = (0.05 * wave * torch.cos(0.011 * i) for wave in (torch.sin(0.7 * i), torch.cos(0.7 * i)))
    for k, key in enumerate(sorted(shapes)):
        count = math.prod(shapes[key])
        values = sine[:count] * math.cos(0.3 * k) + cosine[:count] * math.sin(0.3 * k)
        state[key] = (values + key.endswith(NORM_ENDINGS)).float().reshape(tuple(shapes[key]))
    return state


# --- files ------------------------------------------------------------------------------------------------------------


@cache
def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise NotAReference(f"{path.name} cannot be read: {error}") from error


def metadata_entry(metadata: Mapping[str, str], name: str, file: str) -> dict[str, Any]:
    """A JSON object in the metadata."""
    try:
        entry = json.loads(metadata[name])
    except (KeyError, ValueError):
        entry = None
    if not isinstance(entry, dict):
        raise NotAReference(f"{file}: its metadata has no JSON object {name!r}")
    return entry


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    if len(arguments) != 1:
        print("usage: python -m tests.golden.parity DIR", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    worst = 0.0
    try:
        for name, error_of in checks(folder).items():
            error = error_of()
            held = error <= TOLERANCE  # false for NaN as well
            worst = max(worst, error if held else math.inf)
            print(f"{name:36} {error:9.2e}  {'ok' if held else f'ABOVE {TOLERANCE:g}'}", flush=True)
    except NotAReference as error:
        print(f"not a reference: {error}", file=sys.stderr)
        return 2
    except (KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
        # What our modules say of weights or inputs that do not fit together.
        print(f"not a reference: {folder} does not hold together: {error}", file=sys.stderr)
        return 2
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
