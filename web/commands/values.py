"""Flag values: what they may be, and what is said when they are not."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", re.IGNORECASE)
_DEVICE = re.compile(r"cpu(?::\d+)?|cuda:\d+")
_CACHE = re.compile(r"classic|none|lru:[1-9]\d*|bytes:\d+(?:\.\d+)?(?:[KMG]?B)?", re.IGNORECASE)


def cache(text: str) -> str:
    if not _CACHE.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use classic, lru:N (N results), bytes:N (bytes:512MB, bytes:2GB) or none"
        )
    return text


def size(text: str) -> int:
    """Bytes: 500MB, 10GB, 0; "off" is 0."""
    if text.lower() in ("off", "none"):
        return 0
    match = _SIZE.fullmatch(text.strip())
    unit = match[2].upper() if match else ""
    factor = UNITS.get(unit if unit.endswith("B") or not unit else unit + "B")
    if match is None or factor is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use a size such as 500MB, 10GB, or off")
    return int(float(match[1]) * factor)


def memory(text: str) -> tuple[str, int]:
    """(device, bytes) of 8GB or cuda:0=8GB; without a device it is ""."""
    device, equals, amount = text.rpartition("=")
    if (equals and not _DEVICE.fullmatch(device)) or size(amount) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use a size such as 8GB, or cpu=100MB, cuda:0=8GB")
    return device, size(amount)


def devices(text: str) -> tuple[str, ...]:
    """Names as torch has them, each once."""
    names = tuple(text.split(","))
    if not all(_DEVICE.fullmatch(name) for name in names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use names such as cuda:0,cuda:1 or cpu, each once")
    return names


def port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use a port in 1..65535, or 0 for any free one")
    return int(text)


def runs(text: str) -> int:
    """How many runs a list may have."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use a whole number in 1..1000")
    return int(text)


def folder(text: str) -> Path:
    """A folder that has to be there."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: there is no such folder")
    return path


def server(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#]+/?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use an address such as http://127.0.0.1:8188")
    return text.rstrip("/")


class Setting(NamedTuple):
    """One `--set node.input=value`."""

    name: str
    text: str

    @property
    def upload(self) -> Path | None:
        """The file of `@path`; `@@` stands for a text that starts with @."""
        if self.text.startswith("@") and not self.text.startswith("@@"):
            return Path(self.text[1:]).expanduser()
        return None

    def literal(self, kind: str) -> Any:
        """As text where the input takes text, else as JSON, else as text."""
        text = self.text[1:] if self.text.startswith("@@") else self.text
        if kind in ("STRING", "COMBO") and not (text.startswith('"') and text.endswith('"')):
            return text
        try:
            return json.loads(text, parse_constant=str)
        except (ValueError, RecursionError):
            return text


def setting(text: str) -> Setting:
    name, equals, value = text.partition("=")
    node, dot, port = name.partition(".")
    if not equals or not node or not dot or not port:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: write node.input=value, such as prompt.text='a cat'"
        )
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # how Python hands on bytes that are no UTF-8
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: write it in UTF-8")
    return Setting(name, value)
