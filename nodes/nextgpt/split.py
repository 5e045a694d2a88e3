"""Where what `anyloom convert` makes goes: where the part is looked for; the 2023 delta in pieces to all the parts it holds."""

from __future__ import annotations

import re
from pathlib import Path

from nodes.nextgpt.locate import published, weight_path
from nodes.nextgpt.preset import Preset
from nodes.nextgpt.renaming import INPUT_PREFIXES, OUTPUT_PREFIXES
from nodes.nextgpt.sources import DELTA_FILE, Piece


def targets(preset: Preset, part: str | None, source: Path, models_dir: Path) -> dict[Path, str]:
    """Target in the models folder -> regular expression of the keys that go there ("" for all).

    Without `part` the name of the source decides. A file that no part is published in becomes the part's own file.
    """
    asked = [part] if part is not None else list(preset.parts)
    for name in asked:
        piece = _piece_of(preset, name, source)
        if piece is not None and DELTA_FILE not in piece.names and piece.raw != ("pytorch_model.pt",):
            return {models_dir / piece.homes[0] / piece.names[0]: ""}
    if part is not None and _piece_of(preset, part, source) is None:
        return {weight_path(preset, part, models_dir): ""}
    return _of_delta(preset, asked, models_dir)


def _of_delta(preset: Preset, parts: list[str], models_dir: Path) -> dict[Path, str]:
    """For a file that holds all that NExT-GPT trained: the projectors, and what was trained of the language model."""
    found = {}
    for part in parts:
        prefixes = INPUT_PREFIXES if part == "input_projector" else OUTPUT_PREFIXES.get(part.removesuffix("_projector"))
        if prefixes:
            places = "|".join(re.escape(prefix) for prefix in prefixes)
            found[weight_path(preset, part, models_dir)] = rf"(?:^|\.)(?:{places})"
        elif part == "language_model":
            # To be laid over a base, so it is not the part's own file.
            found[models_dir / preset.name / DELTA_FILE] = r"embed_tokens|lm_head|lora_"
    return found


def _piece_of(preset: Preset, part: str, source: Path) -> Piece | None:
    """The piece that is published under the name of `source`; folders ("unet/...") count."""
    row = published(preset.name, part)
    for way in row.ways if row is not None else ():
        for piece in way:
            for raw in piece.raw_names:
                names = Path(raw).parts
                if source.absolute().parts[-len(names) :] == names:
                    return piece
    return None
