"""The folders that nodes and clients may name files in, and the one place where a name becomes a path."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graph_engine.errors import NotFoundError, PathError

READ_AT_ONCE_BYTES = 4 << 20
"""A few milliseconds' worth; larger files are not read on the event loop."""
_SAFE_SUFFIX = re.compile(r"\.?[A-Za-z0-9]{1,16}")


class Folders:
    """`input`, `output` and `temp`. A path never leaves its folder, not by `..`, not by a symbolic link."""

    def __init__(self, input: Path, output: Path, temp: Path) -> None:
        self.roots = {"input": input, "output": output, "temp": temp}
        for root in self.roots.values():
            root.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._counters: dict[str, int] = {}
        self._digests: dict[tuple[str, int, int], str] = {}

    def resolve(self, folder: str, name: str) -> Path:
        """The path of `name` in `folder`, which need not exist. Raises PathError."""
        root = self.roots.get(folder)
        if root is None:
            raise PathError(f"there is no folder {folder!r}.", remedy=f"Use one of {', '.join(self.roots)}.")
        sizes = [len(part.encode("utf-8", "replace")) for part in name.split("/")]
        if not name or "\x00" in name or max(sizes) > 255 or sum(sizes) + len(sizes) > 1024:
            raise PathError(f"{name[:80]!r} is no file name.", remedy="Give a file name inside the folder.")
        root = root.resolve()
        try:
            path = (root / name).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or letters that no file name has
            raise PathError(
                f"{name!r} is no usable path: {error}.", remedy="Give a file name inside the folder."
            ) from None
        if path == root or not path.is_relative_to(root):
            raise PathError(f"{name!r} lies outside the {folder} folder.", remedy="Give a file name inside the folder.")
        return path

    def existing(self, name: str, folder: str = "input") -> Path:
        """A file that is there. `output/NAME` and `temp/NAME` reach the other folders when input has no such file."""
        path = self._there(name, folder, Path.is_file)
        if path is None:
            raise NotFoundError(
                f"there is no file {name!r} in the {folder} folder.",
                remedy="Upload it, or choose a file that is there.",
                code="file_not_found",
            )
        return path

    def existing_folder(self, name: str, folder: str = "input") -> Path:
        """A folder that is there, below `input` or, as `output/NAME` and `temp/NAME`, below those."""
        path = self._there(name, folder, Path.is_dir)
        if path is None:
            raise NotFoundError(
                f"there is no folder {name!r} in the {folder} folder.",
                remedy="Put it there, or choose a folder that is there.",
                code="folder_not_found",
            )
        return path

    def _there(self, name: str, folder: str, is_wanted: Callable[[Path], bool]) -> Path | None:
        path = self.resolve(folder, name)
        if is_wanted(path):
            return path
        other, slash, rest = name.partition("/")
        if slash and other in self.roots and rest:
            path = self.resolve(other, rest)
            if is_wanted(path):
                return path
        return None

    def fresh(self, folder: str, name: str, suffix: str) -> Path:
        """A new path NAME_00001.SUFFIX; an empty file is created there so that no two jobs get the same."""
        if not _SAFE_SUFFIX.fullmatch(suffix):
            raise PathError(f"{suffix!r} is no file suffix.", remedy="Use letters and digits.")
        stem = self.resolve(folder, name)
        ending = f".{suffix.lstrip('.')}"
        self.resolve(folder, f"{name}_00000{ending}")
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise PathError(f"{name!r} lies below a file.", remedy="Choose another name.") from None
        with self._lock:
            number = self._counters.get(str(stem)) or self._highest(stem)
            while True:
                number += 1
                path = stem.with_name(f"{stem.name}_{number:05}{ending}")
                try:
                    path.touch(exist_ok=False)
                except FileExistsError:
                    continue
                self._counters[str(stem)] = number
                return path

    @staticmethod
    def _highest(stem: Path) -> int:
        pattern = re.compile(re.escape(stem.name) + r"_(\d{1,9})\.\w+")
        found = (pattern.fullmatch(path.name) for path in stem.parent.iterdir())
        return max((int(match[1]) for match in found if match), default=0)

    def describe(self, path: Path, media_type: str, **facts: Any) -> dict[str, Any]:
        """The FILE value of a file in one of the folders."""
        path = path.resolve()
        for folder, root in self.roots.items():
            root = root.resolve()
            if path.is_relative_to(root):
                name = path.relative_to(root).as_posix()
                return {"folder": folder, "name": name, "media_type": media_type, "bytes": path.stat().st_size, **facts}
        raise PathError(f"{path} lies outside the folders.", remedy="Write under context.output_path().")

    def digest(self, name: str) -> str:
        """Content digest of an input file, remembered by size and modification time; empty if it is not there."""
        try:
            key = self._version_of(name)
            known = self._digests.get(key)
            if known is None:
                with open(key[0], "rb") as file:
                    known = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
                self._digests[key] = known
            return known
        except (PathError, NotFoundError, OSError):
            return ""

    def is_quick(self, name: str) -> bool:
        """Whether `digest` has little to do: a file that is remembered, small or not there."""
        try:
            key = self._version_of(name)
        except (PathError, NotFoundError, OSError):
            return True
        return key in self._digests or key[1] <= READ_AT_ONCE_BYTES

    def _version_of(self, name: str) -> tuple[str, int, int]:
        path = self.existing(name)
        facts = path.stat()
        return str(path), facts.st_size, facts.st_mtime_ns
