"""Shelf: chats that were put away under a name, and how to go on from them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from graph_engine.errors import NotFoundError
from nodes.nextgpt.conversation_file import media_of, outline, pack
from nodes.nextgpt.modality import SPOKEN
from web.commands.chat_line import path_of
from web.commands.loop import Loop
from web.commands.session import Session


class Shelf:
    """A history is named as the workflow names it: "output/chat_00002.json", "input/trip.zip"."""

    def __init__(self, session: Session, loop: Loop, folder: Path) -> None:
        self.session, self.loop, self.folder = session, loop, folder

    def keep(self, history: str, name: str) -> Path:
        """The history with its media as one archive; its path."""
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            source = self._fetched(history, Path(temporary))
            if source.suffix == ".json":
                above = PurePosixPath(history).parent
                for medium in media_of(outline(source)):
                    self._fetched(str(above / medium), Path(temporary), medium)
                pack(source, target)
            else:  # it was loaded, and nothing was said since
                shutil.copyfile(source, target)
        return target

    def load(self, name: str) -> str:
        """Bring a chat that was put away to where the engine is; the name of the history. Raises NodeError."""
        path = path_of(name)
        if not name or not path.is_file():
            path = self._path(name)
        if not path.is_file():
            raise NotFoundError(f"there is no saved chat {str(path)!r}.", remedy="/save NAME writes one.")
        outline(path)
        with tempfile.TemporaryDirectory() as temporary:
            if path.suffix == ".json":
                loose, path = path, Path(temporary) / f"{path.stem}.zip"
                pack(loose, path)
            return f"input/{self.loop.do(self.session.upload(path))}"

    def told(self, history: str) -> Iterator[str]:
        """The conversation for people, a line per turn."""
        with tempfile.TemporaryDirectory() as temporary:
            document = outline(self._fetched(history, Path(temporary)))
        for number, turn in enumerate(document["turns"]):
            parts = []
            for part in turn["parts"]:
                if part["type"] == "text":
                    parts.append(part["text"].strip())
                elif part["type"] != "signal":
                    noun = SPOKEN[part["type"]].noun if part["type"] in SPOKEN else part["type"]
                    parts.append(f"[{noun} {PurePosixPath(part['file']).name}]")
            yield f"{number + 1:3} {turn['role']}: {' '.join(parts)}"

    def _path(self, name: str) -> Path:
        """Where a chat of this name lies: a path as it is, a plain name in the folder for results."""
        path = path_of(name or "chat")
        path = path if len(path.parts) > 1 else self.folder / path
        return path if path.suffix in (".zip", ".json") else path.with_name(f"{path.name}.zip")

    def _fetched(self, name: str, folder: Path, to: str = "") -> Path:
        """A file of the session as a file here."""
        place, _, rest = name.partition("/")
        target = folder / (to or PurePosixPath(rest).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        return self.loop.do(self.session.fetch({"folder": place, "name": rest}, target))
