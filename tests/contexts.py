"""A node context without an engine, for tests of node functions: real folders, everything recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graph_engine.graph.context import NodeContext
from graph_engine.store.folders import Folders


class FolderContext(NodeContext):
    """Folders `input`, `output`, `temp`, `models` and `scratch` under `root`.

    models       what `model(spec)` returns, by spec
    stop_after   the number of cancellation checks that pass before the run counts as cancelled; None for never
    """

    stop_after: int | None

    def __init__(
        self, root: Path, document: Mapping[str, Any] | None = None, models: Mapping[Any, Any] | None = None
    ) -> None:
        self.node, self.run, self.device, self.document = "node", "run", "cpu", document
        self.root, self.models, self.stop_after = root, dict(models or {}), None
        self.folders = Folders(root / "input", root / "output", root / "temp")
        self.progressed: list[tuple[float, float, str]] = []
        self.previews: list[tuple[bytes, str]] = []
        self.chunks: list[str] = []
        self.logged: list[str] = []

    def progress(self, done: float, total: float, message: str = "") -> None:
        self.check()
        self.progressed.append((done, total, message))

    def preview(self, data: bytes, media_type: str) -> None:
        self.previews.append((data, media_type))

    def chunk(self, value: str) -> None:
        self.chunks.append(value)

    def log(self, message: str) -> None:
        self.logged.append(message)

    @property
    def cancelled(self) -> bool:
        if self.stop_after is None:
            return False
        self.stop_after -= 1
        return self.stop_after < 0

    def model(self, spec: Any, again: int | None = None) -> Any:
        return self.models[spec]

    def rng(self, seed: int) -> Any:
        import torch

        return torch.Generator("cpu").manual_seed(seed)

    def scratch(self) -> Path:
        folder = self.root / "scratch"
        folder.mkdir(exist_ok=True)
        return folder

    def input_path(self, name: str) -> Path:
        return self.folders.existing(name)

    def input_folder(self, name: str) -> Path:
        return self.folders.existing_folder(name)

    def output_path(self, name: str, suffix: str, *, temporary: bool = False) -> Path:
        return self.folders.fresh("temp" if temporary else "output", name, suffix)

    def file(self, path: Path, media_type: str, **facts: Any) -> dict[str, Any]:
        return self.folders.describe(path, media_type, **facts)

    @property
    def models_dir(self) -> Path:
        return self.root / "models"

    def path_of(self, file: Mapping[str, Any]) -> Path:
        """Where the file of a FILE value lies."""
        return self.folders.resolve(file["folder"], file["name"])


class ModelsContext(FolderContext):
    """Loads the models of the NExT-GPT families that it is asked for, once each, as the engine does."""

    def model(self, spec: Any, again: int | None = None) -> Any:
        from graph_engine.models.load import materialise
        from nodes.nextgpt.families import FAMILIES

        if spec.key not in self.models:
            family = next(family for family in FAMILIES if family.name == spec.family)
            self.models[spec.key] = materialise(spec, family, "cpu")
        return self.models[spec.key]
