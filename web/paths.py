"""Where a path really leads, symbolic links followed."""

from __future__ import annotations

from pathlib import Path


def leads_inside(path: Path, root: Path) -> bool:
    """Does `path` end in `root` (which is resolved already)? A link that bites its own tail ends nowhere."""
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):
        return False
