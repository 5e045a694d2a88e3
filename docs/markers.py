"""Sections of a document that a script writes: it owns what stands between two markers with the section's name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def replaced(text: str, name: str, content: str) -> str:
    """Raises ValueError where the markers are missing."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise ValueError(f"the markers {begin} and {end} are not both there")
    return f"{before}{begin}\n{content}\n{end}{after}"


def fresh(path: Path, sections: Mapping[str, Callable[[], str]]) -> tuple[str, str]:
    """The document as it is, and as it should be."""
    text = updated = path.read_text(encoding="utf-8")
    for name, make in sections.items():
        updated = replaced(updated, name, make())
    return text, updated


def run(path: Path, sections: Mapping[str, Callable[[], str]], about: str | None) -> int:
    """The command line of a script: rewrite the sections, or with --check say whether they are up to date."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a section is out of date")
    text, updated = fresh(path, sections)
    if parser.parse_args().check:
        if updated != text:
            print(f"{path.name} is out of date; run this script without --check.", file=sys.stderr)
        return int(updated != text)
    path.write_text(updated, encoding="utf-8")
    return 0
