"""Finding the published weights on disk: the models folder, the vendors' layouts in it, the Hugging Face caches.

Looks only, and only where `sources.py` says. Nothing is fetched.
"""

from __future__ import annotations

import glob
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nodes.nextgpt.preset import PRESETS, Preset, files_of
from nodes.nextgpt.sources import SOURCES, Piece, Published

SHIPPED = Path(__file__).resolve().parent / "weights"
"""Weights that come with Anyloom; those of the models folder go before them."""
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")


@dataclass(frozen=True)
class Placed:
    """A weight file that is there, and what goes before its keys."""

    path: Path
    prefix: str = ""


@dataclass(frozen=True)
class Lack:
    """A piece that is not there.

    target   where it would be taken from, in the models folder
    raw      the same weights in a form that has to be converted first, if those are there
    reason   why what is there does not do
    """

    piece: Piece
    target: Path
    raw: Path | None = None
    reason: str = ""


@dataclass(frozen=True)
class Place:
    """What there is of a part: all of its `files`, or what is lacking.

    own: our own file, which comes before any other.
    """

    own: Path
    files: tuple[Placed, ...] = ()
    lacks: tuple[Lack, ...] = ()

    @property
    def present(self) -> bool:
        return bool(self.files) and not self.lacks


def weight_path(preset: Preset, part: str, models_dir: Path) -> Path:
    """Our own file of a part."""
    return models_dir.resolve() / preset.parts[part].folder / f"{part}.safetensors"


def shipped_path(preset: Preset, part: str) -> Path:
    """Where the weights of a part lie if they come with Anyloom itself."""
    return SHIPPED / preset.parts[part].folder / f"{part}.safetensors"


def published(preset: str, part: str) -> Published | None:
    """How a part is published, if somebody publishes it."""
    return SOURCES.get(preset, {}).get(part)


def locate(preset: Preset, part: str, models_dir: Path) -> Place:
    """The first way in which the part is there whole; else the way of which most is there, with what it lacks."""
    own = weight_path(preset, part, models_dir)
    shipped = shipped_path(preset, part)
    if not preset.made and not own.is_file() and shipped.is_file():
        return Place(own, (Placed(shipped),))
    source = published(preset.name, part)
    if own.is_file() or source is None:
        piece = Piece((own.name,), (preset.parts[part].folder,))
        return Place(own, (Placed(own),)) if own.is_file() else Place(own, lacks=(Lack(piece, own),))
    best: Place | None = None
    for way in source.ways:
        files, lacks = [], []
        for piece in way:
            found = _find(piece, models_dir)
            if isinstance(found, Lack):
                lacks.append(found)
            else:
                files += [Placed(path, piece.prefix) for path in found]
        place = Place(own, tuple(files), tuple(lacks))
        if place.present:
            return place
        if best is None or _nearness(place) > _nearness(best):
            best = place
    assert best is not None, "every published part has a way"
    return best


def watched(name: str) -> list[str]:
    """Names and patterns (`*`) of every file on which a preset may rest: in the models folder, or absolute.

    If one of them is changed, added or removed, what was computed with the preset is no longer what it would be.
    """
    preset = PRESETS.get(name)
    if preset is None or preset.made:
        return []
    patterns = {*files_of(name)} | {
        str(path) for part in preset.parts if (path := shipped_path(preset, part)).is_file()
    }
    roots = ("", *(f"{glob.escape(str(cache))}/" for cache in hub_caches()))
    pieces = {
        piece for part, row in SOURCES.get(name, {}).items() if part in preset.parts for w in row.ways for piece in w
    }
    for piece in pieces:
        wanted = [
            f"{name.removesuffix('.safetensors')}*" for name in piece.names if not name.endswith(".fp16.safetensors")
        ]
        wanted += ["adapter_config.json"] if piece.names[0].startswith("adapter_model") else []
        patterns |= {f"{home}/{pattern}" for home in piece.homes for pattern in wanted}
        for repo in piece.repos:
            folder = _cache_folder(repo)
            inner = [f"{folder}/refs/main", *(f"{folder}/snapshots/*/{pattern}" for pattern in wanted)]
            patterns |= {f"{root}{entry}" for root in roots for entry in inner}
    return sorted(patterns)


def hub_caches() -> list[Path]:
    """The folders where programs of Hugging Face keep what they fetched, by the variables that they read."""
    named = [os.environ.get("HF_HUB_CACHE"), os.environ.get("HUGGINGFACE_HUB_CACHE")]
    home = os.environ.get("HF_HOME")
    named += [home and os.path.join(home, "hub"), "~/.cache/huggingface/hub"]
    return list(dict.fromkeys(Path(os.path.expanduser(name)).absolute() for name in named if name))


def snapshot(cache: Path, repo: str) -> Path | None:
    """The folder of a repository's files in a cache: the revision that refs/main names, or else the only one."""
    base = cache / _cache_folder(repo)
    try:
        revision = (base / "refs" / "main").read_text().strip()
    except (OSError, UnicodeDecodeError):
        try:
            revisions = [entry.name for entry in (base / "snapshots").iterdir() if entry.is_dir()]
        except OSError:
            return None
        revision = revisions[0] if len(revisions) == 1 else ""
    folder = base / "snapshots" / revision
    return folder if _NAME.fullmatch(revision) and folder.is_dir() else None


def _cache_folder(repo: str) -> str:
    return f"models--{repo.replace('/', '--')}"


def _nearness(place: Place) -> int:
    return len(place.files) + sum(lack.raw is not None for lack in place.lacks) - len(place.lacks)


def _find(piece: Piece, models_dir: Path) -> list[Path] | Lack:
    root = models_dir.resolve()
    folders = [root / home for home in piece.homes]
    folders += [
        there for cache in (root, *hub_caches()) for repo in piece.repos if (there := snapshot(cache, repo)) is not None
    ]
    reason, raw = "", None
    for folder in folders:
        for name in piece.names:
            path = folder / name
            if path.is_file():
                return [path]
            shards, wrong = _shards(path)
            if shards:
                return shards
            reason = reason or wrong
        raw = raw or next((path for name in piece.raw_names if (path := folder / name).is_file()), None)
    beside = raw is not None and raw.is_relative_to(root) and "snapshots" not in raw.relative_to(root).parts
    if raw is not None and beside:
        depth = piece.names[0].count("/")
        target = raw.parents[depth] / piece.names[0]
    else:
        target = root / piece.homes[0] / piece.names[0]
    return Lack(piece, target, raw, reason)


def _shards(path: Path) -> tuple[list[Path], str]:
    """The files that the index of `path` lists, if all are there; else why not."""
    index = path.with_name(f"{path.name}.index.json")
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except FileNotFoundError:
        return [], ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], f"{index} is no index of weight files"
    if not names or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        return [], f"{index} is no index of weight files"
    shards = [path.with_name(name) for name in sorted(names)]
    missing = [shard.name for shard in shards if not shard.is_file()]
    return ([], f"{path.parent} lacks {', '.join(missing)}") if missing else (shards, "")
