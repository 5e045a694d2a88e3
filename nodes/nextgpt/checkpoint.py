"""From a preset's name to model specs: which files there are, which are missing, and the tiny ones made on the spot.

Tiny weights are random, follow from their recipe alone, and are written once as safetensors, so that everything after
this file loads them like any other weights. A file carries its recipe and the digest of its content: one that is
damaged, cut off or of an older recipe is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.preset import PRESETS, RECIPE, Part, Preset

_BUILD = {family.name: family.build for family in FAMILIES}
_PROJECTORS = frozenset(row.projector for row in SPOKEN.values())
GAIN = 4.0
"""Random output projectors speak this much louder, so that what was said shows in what is made."""
_SEEDING = threading.Lock()
"""torch has one default generator per process; two threads that seed it at once would spoil each other's weights."""


def find_preset(name: str) -> Preset:
    """Raises ModelError for a name that no preset has."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ModelError(
            f"there is no preset {name!r}.", remedy=f"Choose one of {', '.join(PRESETS)}.", code="unknown_preset"
        ) from None


def specs_of(name: str, parts: Iterable[str], models_dir: Path) -> list[ModelSpec]:
    """The specs of these parts of a preset. Raises ModelError that lists every missing file and where it should be."""
    preset = find_preset(name)
    wanted = list(parts)
    paths = {part: weight_path(preset, part, models_dir) for part in wanted}
    if not preset.made:
        missing = [str(path) for path in paths.values() if not path.is_file()]
        if missing:
            raise ModelError(
                f"the preset {name!r} lacks {len(missing)} of {len(paths)} weight files: {', '.join(missing)}.",
                remedy="Put the converted safetensors files there (or start with --models-dir where they lie), "
                "or choose the preset 'tiny', which needs none.",
                code="model_missing",
            )
    return [_spec(preset, part, path) for part, path in paths.items()]


def weight_path(preset: Preset, part: str, models_dir: Path) -> Path:
    """Where the weights of one part are looked for."""
    return models_dir.resolve() / preset.parts[part].folder / f"{part}.safetensors"


def present(spec: ModelSpec, models_dir: Path) -> ModelSpec:
    """`spec` with its files as they are now: a spec may come from a cache that is older than its files.

    Files of a tiny preset are put back first. Raises ModelError for others that are gone.
    """
    preset, part = PRESETS.get(spec.extras.get("preset", "")), spec.extras.get("part", "")
    if preset is not None and preset.made:
        path = weight_path(preset, part, models_dir)
        try:
            if spec.files == (WeightFile.of(path),):
                return spec
        except ModelError:
            pass  # gone, or no weight file any more
        return replace(spec, files=_spec(preset, part, path).files)
    return replace(spec, files=tuple(WeightFile.of(Path(file.path)) for file in spec.files))


def _spec(preset: Preset, name: str, path: Path) -> ModelSpec:
    part = preset.parts[name]
    config = dict(part.config())
    if preset.made:
        _ensure(part, name, config, path)
    extras = {**part.extras, "preset": preset.name, "part": name}
    # Through JSON, so that a spec read back from a cache equals one made here.
    plain = json.loads(json.dumps(config))
    return ModelSpec(part.family, plain, (WeightFile.of(path),), part.dtype, extras)


# --- random weights -------------------------------------------------------------------------------------------------


def _ensure(part: Part, name: str, config: Mapping[str, Any], path: Path) -> None:
    """The file is there, whole and of the present recipe when this returns; several processes may call it at once."""
    recipe = _recipe(part, name, config)
    if _is_whole(path, recipe):
        return
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(".lock")):
            if not _is_whole(path, recipe):
                _write(path, _random_state(part.family, config, recipe), recipe)
    except OSError as error:
        raise ModelError(
            f"the random weights {path} cannot be written: {error.strerror or error}.",
            remedy="Check the free space and the rights of the models folder, or choose another with --models-dir.",
            code="model_unwritable",
        ) from error


def _recipe(part: Part, name: str, config: Mapping[str, Any]) -> str:
    """Says what is in the file; equal recipes give equal weights."""
    text = json.dumps([RECIPE, part.family, name, config], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _random_state(family: str, config: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    import torch

    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(recipe, 16) >> 1)
        module = _BUILD[family](config)
    state = {key: tensor.detach().contiguous() for key, tensor in module.state_dict().items()}
    if family in _PROJECTORS:
        for key in ("out_fc.weight", "out_fc.bias"):
            state[key] = state[key] * GAIN
    return state


def _write(path: Path, state: dict[str, Any], recipe: str) -> None:
    from safetensors.torch import save

    content = save(state)
    # One entry, because safetensors writes several in any order.
    data = save(state, {"made": f"{recipe} {_content(content)}"})
    draft = path.with_suffix(f".{os.getpid()}.part")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _content(data: bytes) -> str:
    """Digest of the tensors of a safetensors file, without its header."""
    start = 8 + int.from_bytes(data[:8], "little")
    return hashlib.blake2b(memoryview(data)[start:], digest_size=16).hexdigest()


def _is_whole(path: Path, recipe: str) -> bool:
    try:
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return bool(header["__metadata__"]["made"] == f"{recipe} {_content(data)}")
    except (OSError, ValueError, KeyError, TypeError):
        return False
