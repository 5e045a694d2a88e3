"""`anyloom convert`: weights that are published as pickles become safetensors, in a child process."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from graph_engine.errors import ModelError
from graph_engine.models.convert import Report, convert, default_target
from web.commands.flags import settings_of
from web.commands.models import bytes_text


async def convert_weights(arguments: argparse.Namespace) -> int:
    source = Path(arguments.source).expanduser()
    if source.name.endswith(".index.json"):
        reports = _convert_shards(source, arguments)
    else:
        reports = [_convert_one(source, _outputs(source, arguments), arguments.force)]
    for report in reports:
        for note in report.notes:
            print(note)
        for key, what in report.left_out.items():
            print(f"left out  {key}  ({what})")
        for path, count in report.files.items():
            print(f"written   {path}  {count} tensors, {bytes_text(Path(path).stat().st_size)}")
    return 0


def _convert_one(source: Path, outputs: dict[Path, str], force: bool) -> Report:
    shown = -1

    def progress(share: float, doing: str) -> None:
        nonlocal shown
        if sys.stderr.isatty() and int(share * 100) != shown:
            shown = int(share * 100)
            print(f"\r{shown:3} %  {doing} {source.name}", end="", file=sys.stderr, flush=True)

    try:
        return convert(source, outputs, force=force, on_progress=progress)
    finally:
        if shown >= 0:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _outputs(source: Path, arguments: argparse.Namespace) -> dict[Path, str]:
    """Destination -> which keys go there."""
    target = Path(arguments.target).expanduser() if arguments.target else None
    if target is not None and (target.is_dir() or arguments.target.endswith("/")):
        target = target / default_target(source).name
    if arguments.preset is None:
        if arguments.part is not None:
            raise ModelError("a part belongs to a preset.", remedy="Add --preset.", code="wrong_use")
        return {target or default_target(source): ""}
    found = _targets(source, arguments)
    if target is None:
        return found
    if len(found) > 1:
        raise ModelError(
            f"{source.name} is taken apart into {len(found)} files, and {arguments.target} is one.",
            remedy="Leave the destination out: they go into the models folder (--models-dir).",
            code="wrong_use",
        )
    return {target: next(iter(found.values()))}


def _targets(source: Path, arguments: argparse.Namespace) -> dict[Path, str]:
    from nodes.nextgpt.checkpoint import find_preset
    from nodes.nextgpt.split import targets

    preset = find_preset(arguments.preset)
    if preset.made:
        raise ModelError(
            f"the preset {preset.name!r} makes its own weights.", remedy="It needs no files.", code="wrong_use"
        )
    if arguments.part is not None and arguments.part not in preset.parts:
        raise ModelError(
            f"the preset {preset.name!r} has no part {arguments.part!r}.",
            remedy=f"It has {', '.join(preset.parts)}.",
            code="unknown_part",
        )
    return targets(preset, arguments.part, source, settings_of(arguments).models_path)


def _convert_shards(index: Path, arguments: argparse.Namespace) -> list[Report]:
    """Every shard that an index lists, and an index of the new ones, which comes last: it is what makes them a model."""
    try:
        content = json.loads(index.read_text())
        shards = sorted(set(content["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{index} is no index of weight files: {error}.", remedy="Give *.bin.index.json.", code="model_format"
        ) from error
    folder = Path(arguments.target).expanduser() if arguments.target else index.parent
    if arguments.preset is not None and not arguments.target:
        folder = next(iter(_targets(index, arguments))).parent
    if any("/" in name or not (index.parent / name).is_file() for name in shards):
        absent = [name for name in shards if not (index.parent / name).is_file()]
        raise ModelError(
            f"{index.parent} lacks {', '.join(absent or shards)}.", remedy="Fetch all shards.", code="model_missing"
        )
    names = {name: name.replace("pytorch_model", "model").removesuffix(".bin") + ".safetensors" for name in shards}
    new_index = folder / index.name.replace("pytorch_model", "model").replace(".bin.index", ".safetensors.index")
    if new_index.exists() and not arguments.force:
        raise ModelError(f"{new_index} is there already.", remedy="Add --force.", code="target_exists")
    reports = [
        _convert_one(index.parent / name, {folder / new: ""}, force=arguments.force) for name, new in names.items()
    ]
    mapped = {key: names[name] for key, name in content["weight_map"].items()}
    draft = new_index.with_name(f".{new_index.name}.part")
    draft.write_text(json.dumps({"metadata": content.get("metadata", {}), "weight_map": mapped}, indent=1))
    draft.replace(new_index)
    print(f"written   {new_index}")
    return reports
