"""The pictures, sounds and videos that the shipped workflows start from, put where workflows look for them."""

from __future__ import annotations

import shutil

from graph_engine.store.folders import Folders
from web.library import SHIPPED
from web.media_types import INLINE


def put_samples(folders: Folders) -> None:
    """Copy what the input folder does not have. A file of the same name is somebody's own and stays."""
    media = SHIPPED / "media"
    root = folders.roots["input"]
    for source in sorted(media.iterdir()) if media.is_dir() else ():
        target = root / source.name
        if source.suffix in INLINE and source.is_file() and not target.exists():
            unfinished = target.with_name(f".{source.name}.part")
            shutil.copyfile(source, unfinished)
            unfinished.replace(target)
