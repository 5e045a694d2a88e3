"""What each preset needs, what of it is there, and what to do about the rest: facts as JSON, for people and programs."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.spec import WeightFile
from nodes.nextgpt.locate import Lack, locate, published
from nodes.nextgpt.preset import OPTIONAL, PRESETS, VOCABULARIES, Preset

OnRead = Callable[[Path, float], None]
"""(file, share of it that was read 0..1)."""
CHUNK_BYTES = 16 << 20


def inventory(names: Iterable[str], models_dir: Path) -> list[dict[str, Any]]:
    """Per preset {preset, made, complete, parts}, per part {part, family, dtype, licence, bytes, present, files, wants}.

    files    {path, bytes, prefix, stamp} of what there is; `error` instead of `stamp` for one that is damaged
    wants    {file, fetch, raw, do, reason} of what there is not: `do` is the command that turns `raw` into `file`
    optional what the part is needed for, where a preset is complete without it; else ""
    bytes    of the files; of what is published, about, where they are lacking
    """
    return [_preset(PRESETS[name], models_dir) for name in names]


def _preset(preset: Preset, models_dir: Path) -> dict[str, Any]:
    parts = [_part(preset, part, models_dir) for part in preset.parts]
    if not preset.made:
        folders = {part.extras["tokenizer"]: name for name, part in preset.parts.items() if "tokenizer" in part.extras}
        parts += [_tokenizer(models_dir / place, name) for place, name in folders.items() if place not in VOCABULARIES]
    complete = preset.made or all(part["present"] or part["optional"] for part in parts)
    return {"preset": preset.name, "made": preset.made, "complete": complete, "parts": parts}


def _how(preset: Preset) -> str:
    """How to come by weights that nobody publishes."""
    return f"Train them with `anyloom train {preset.name} --publish` (docs/training.md)." if preset.trained else ""


def _part(preset: Preset, part: str, models_dir: Path) -> dict[str, Any]:
    place, source = locate(preset, part, models_dir), published(preset.name, part)
    files = [_file(file.path, file.prefix) for file in place.files]
    wants = [] if preset.made else [_want(preset, lack) for lack in place.lacks]
    for want in [want for want in wants if not want["raw"]][:1]:
        want |= {"or": str(place.own), "fetch": source.fetch if source is not None else _how(preset)}
    whole = place.present and all("error" not in file for file in files)
    return {
        "part": part,
        "family": preset.parts[part].family,
        "dtype": preset.parts[part].dtype,
        "licence": source.licence if source is not None else "",
        "bytes": sum(file["bytes"] for file in files) if whole or source is None else source.bytes,
        "present": whole,
        "optional": OPTIONAL.get(part, ""),
        "files": files,
        "wants": wants,
    }


def _file(path: Path, prefix: str) -> dict[str, Any]:
    facts = {"path": str(path), "prefix": prefix}
    try:
        file = WeightFile.of(path)
    except ModelError as error:
        size = path.stat().st_size if path.is_file() else 0
        return {**facts, "bytes": size, "error": str(error)}
    return {**facts, "bytes": file.bytes, "stamp": file.stamp}


def _want(preset: Preset, lack: Lack) -> dict[str, Any]:
    do = ""
    if lack.raw is not None:
        whole = lack.raw.name == "pytorch_model.pt"
        do = f"anyloom convert {shlex.quote(str(lack.raw))} " + (
            f"--preset {preset.name}" if whole else shlex.quote(str(_made_of(lack.raw, lack.target)))
        )
    return {
        "file": str(lack.target),
        "or": "",
        "fetch": "",
        "raw": str(lack.raw or ""),
        "do": do,
        "reason": lack.reason,
    }


def _made_of(raw: Path, target: Path) -> Path:
    """Shards become shards, in the folder of the target."""
    return target.parent if raw.name.endswith(".index.json") else target


def _tokenizer(folder: Path, part: str) -> dict[str, Any]:
    path = folder / "tokenizer.json"
    there = path.is_file()
    if part == "encoder":
        fetch = "Get tokenizer.json of openai/clip-vit-large-patch14."
    elif part.endswith("_text_encoder"):
        fetch = "Get tokenizer.json of openai/clip-vit-large-patch14 (pictures, videos) or of the decoder's repository (sound)."
    else:
        fetch = (
            "Get the tokenizer of the base model; where it has no tokenizer.json, "
            "transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder) makes one."
        )
    want = {"file": str(path), "or": "", "fetch": fetch, "raw": "", "do": "", "reason": ""}
    return {
        "part": f"tokenizer of {part}",
        "family": "",
        "dtype": "",
        "licence": "",
        "bytes": path.stat().st_size if there else 0,
        "present": there,
        "optional": OPTIONAL.get(part, ""),
        "files": [{"path": str(path), "prefix": "", "bytes": path.stat().st_size}] if there else [],
        "wants": [] if there else [want],
    }


def add_hashes(presets: Iterable[dict[str, Any]], on_read: OnRead | None = None) -> None:
    """Put `sha256` to every file of an inventory; each is read once, however often it is named."""
    known: dict[str, str] = {}
    for preset in presets:
        for part in preset["parts"]:
            for file in part["files"]:
                if file["path"] not in known:
                    known[file["path"]] = _sha256(Path(file["path"]), on_read)
                file["sha256"] = known[file["path"]]


def _sha256(path: Path, on_read: OnRead | None) -> str:
    digest, size, read = hashlib.sha256(), path.stat().st_size or 1, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            read += len(chunk)
            if on_read is not None:
                on_read(path, read / size)
    return digest.hexdigest()


def add_checks(presets: Iterable[dict[str, Any]], models_dir: Path) -> None:
    """Put `fit` {keys, parameters, memory_bytes} or `error` to every part that is there, by the headers of its files."""
    from graph_engine.models.load import check
    from nodes.nextgpt.checkpoint import specs_of
    from nodes.nextgpt.families import FAMILIES

    families = {family.name: family for family in FAMILIES}
    for preset in presets:
        for part in preset["parts"]:
            if not part["family"] or not (part["present"] or preset["made"]):
                continue
            try:
                (spec,) = specs_of(preset["preset"], [part["part"]], models_dir)
                fit = check(spec, families[spec.family])
                part["fit"] = {"keys": fit.keys, "parameters": fit.parameters, "memory_bytes": fit.memory_bytes}
            except ModelError as error:
                part["error"], preset["complete"] = str(error), False
