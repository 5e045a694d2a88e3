"""`anyloom models`: what each preset needs, where it is looked for, what is there, and what to do about the rest."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from nodes.nextgpt.checkpoint import find_preset
from nodes.nextgpt.inventory import add_checks, add_hashes, inventory
from nodes.nextgpt.locate import hub_caches
from nodes.nextgpt.preset import PRESETS
from web.commands.flags import settings_of


async def models(arguments: argparse.Namespace) -> int:
    """Exit code 1 if the preset that was named is not complete."""
    names = [find_preset(arguments.preset).name] if arguments.preset else list(PRESETS)
    models_dir = settings_of(arguments).models_path
    found = inventory(names, models_dir)
    if arguments.hash:
        add_hashes(found, _show_reading if sys.stderr.isatty() else None)
    if arguments.check:
        add_checks(found, models_dir)
    if arguments.json:
        print(json.dumps({"models_dir": str(models_dir.resolve()), "presets": found}, indent=2))
    else:
        print(f"models folder: {models_dir.resolve()}")
        print(f"Hugging Face caches: {', '.join(map(str, hub_caches()))}")
        for preset in found:
            _show(preset, details=bool(arguments.preset))
    return 1 if arguments.preset and not found[0]["complete"] else 0


def _show(preset: dict[str, Any], details: bool) -> None:
    there = sum(part["present"] for part in preset["parts"])
    state = "complete" if preset["complete"] else f"{there} of {len(preset['parts'])} parts are there"
    if preset["made"]:
        state = "complete; random weights, made on first use"
    print(f"\n{preset['preset']}: {state}")
    width = max(len(part["part"]) for part in preset["parts"])
    for part in preset["parts"]:
        word = (
            "made" if preset["made"] else "present" if part["present"] else "absent" if part["optional"] else "MISSING"
        )
        size = bytes_text(part["bytes"]) if part["bytes"] else ""
        about = "" if part["present"] or not size else "about "
        print(f"  {part['part']:{width}}  {word:8} {about + size:>14}  {part['licence']}".rstrip())
        if not details:
            continue
        if part["optional"] and not part["present"] and not preset["made"]:
            print(f"      {part['optional']}")
        for file in part["files"]:
            mark = file.get("sha256") or file.get("stamp") or ""
            prefix = f"  as {file['prefix']}*" if file["prefix"] else ""
            print(f"      {file['path']}{prefix}" + (f"  [{mark}]" if mark else ""))
            if "error" in file:
                print(f"      {file['error']}")
        for want in part["wants"]:
            _show_want(want)
        if "fit" in part:
            fit = part["fit"]
            print(
                f"      fits: {fit['keys']:,} keys, {fit['parameters']:,} parameters, "
                f"{bytes_text(fit['memory_bytes'])} in memory"
            )
        if "error" in part:
            print(f"      {part['error']}")
    if not details and not preset["complete"]:
        print(f"  `anyloom models {preset['preset']}` says what to fetch and where it goes.")


def _show_want(want: dict[str, str]) -> None:
    other = f" (or {want['or']})" if want["or"] and want["or"] != want["file"] else ""
    print(f"      looked for {want['file']}{other}")
    for text in (want["reason"], want["fetch"]):
        if text:
            print(f"      {text}")
    if want["do"]:
        print(f"      convert it:  {want['do']}")


def bytes_text(count: int) -> str:
    """1536 -> "2 KB", 4_800_000_000 -> "4.8 GB"; thousands, as the vendors count."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if unit == "GB" else f"{count / size:.0f} {unit}"
    return f"{count} B"


def _show_reading(path: Path, share: float) -> None:
    end = "\r\x1b[K" if share >= 1 else ""
    print(f"\r{int(share * 100):3} %  {path.name}{end}", end="", file=sys.stderr, flush=True)
