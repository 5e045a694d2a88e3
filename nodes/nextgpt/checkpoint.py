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
from nodes.nextgpt.locate import Place, locate, published, weight_path
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.preset import PRESETS, RECIPE, Part, Preset

_BUILD = {family.name: family.build for family in FAMILIES}
_PROJECTORS = frozenset(row.projector for row in SPOKEN.values())
GAIN = 4.0
"""Random output projectors speak this much louder, so that what was said shows in what is made."""
_SPECIAL_LORA = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
"""Settings of peft with which an adapter is more than `B A alpha / r`."""
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
    """The specs of these parts of a preset. Raises ModelError that lists every missing part and where it should be."""
    preset = find_preset(name)
    wanted = list(parts)
    lacking = [part.replace("_", " ") for part in wanted if part not in preset.parts]
    if lacking:
        raise ModelError(
            f"the preset {name!r} has no {', '.join(lacking)}.", remedy="Choose another preset.", code="no_part"
        )
    if preset.made:
        return [_made(preset, part, models_dir) for part in wanted]
    places = {part: locate(preset, part, models_dir) for part in wanted}
    missing = {part: place for part, place in places.items() if not place.present}
    if missing:
        raise ModelError(
            f"the preset {name!r} lacks the weights of {len(missing)} of {len(places)} parts: {_lacking(missing)}.",
            remedy=f"`anyloom models {name}` says what to fetch, where to put it and what to convert; "
            "or choose the preset 'tiny', which needs none.",
            code="model_missing",
        )
    return [_found(preset, part, place) for part, place in places.items()]


def _lacking(missing: Mapping[str, Place]) -> str:
    told = []
    for part, place in missing.items():
        raw = [str(lack.raw) for lack in place.lacks if lack.raw is not None]
        reasons = [lack.reason for lack in place.lacks if lack.reason]
        note = "; ".join([f"{', '.join(raw)} is there and has to be converted"] if raw else reasons)
        told.append(f"{part} ({place.own}{f'; {note}' if note else ''})")
    return ", ".join(told)


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
        return replace(spec, files=_made(preset, part, models_dir).files)
    return replace(spec, files=tuple(WeightFile.of(Path(file.path), file.prefix) for file in spec.files))


def _made(preset: Preset, part: str, models_dir: Path) -> ModelSpec:
    path = weight_path(preset, part, models_dir)
    _ensure(preset.parts[part], part, dict(preset.parts[part].config()), path)
    return _spec(preset, part, (WeightFile.of(path),))


def _found(preset: Preset, part: str, place: Place) -> ModelSpec:
    source = published(preset.name, part)
    facts = {**source.facts} if source is not None else {}
    for file in place.files:
        facts |= _adapter_facts(file.path)
    return _spec(preset, part, tuple(WeightFile.of(file.path, file.prefix) for file in place.files), facts)


def _spec(
    preset: Preset, name: str, files: tuple[WeightFile, ...], facts: Mapping[str, Any] | None = None
) -> ModelSpec:
    part = preset.parts[name]
    extras = {**(facts or {}), **part.extras, "preset": preset.name, "part": name}
    # Through JSON, so that a spec read back from a cache equals one made here.
    config, extras = json.loads(json.dumps([dict(part.config()), extras]))
    return ModelSpec(part.family, config, files, part.dtype, extras)


def _adapter_facts(path: Path) -> dict[str, Any]:
    """Rank and alpha of an adapter of peft, which lie in a file beside it. Raises ModelError for what cannot be folded."""
    config = path.with_name("adapter_config.json")
    if not path.name.startswith("adapter_model") or not config.is_file():
        return {}
    try:
        told = json.loads(config.read_text())
        facts = {"rank": int(told["r"]), "alpha": float(told["lora_alpha"])}
        special = [name for name in _SPECIAL_LORA if told.get(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{config} does not say the rank and alpha of the adapter: {error}.",
            remedy="Put the adapter_config.json there that peft saved with it.",
            code="model_format",
        ) from error
    if special:
        raise ModelError(
            f"{config} describes an adapter with {', '.join(special)}, which is not supported.",
            remedy="Merge it with peft (merge_and_unload) and give the merged model.",
            code="model_format",
        )
    return {"lora": facts}


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
