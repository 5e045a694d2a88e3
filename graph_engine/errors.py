"""Everything that can go wrong, as one tree.

    AnyloomError                      code, message, remedy, and where: node, port, place
    ├── InvalidError                  a document, graph or request that cannot run (carries every problem found)
    │   ├── DocumentError             the JSON is not a workflow: syntax, version, shape, size
    │   └── GraphError                the workflow names things that do not fit: node, port, kind, range, cycle
    ├── KindError                     a value that is not what its kind promises
    ├── RegistryError                 a node type that cannot be published
    ├── NodeError                     a node said what is wrong with its inputs (raise it in your own nodes)
    │   └── OutOfMemory               the device had no room
    ├── NotFoundError                 no such run, workflow, node type, file, model or artifact
    ├── PathError                     a path that leaves its folder
    ├── ModelError                    weights that are absent, damaged or of another shape
    ├── StoreError                    a record on disk that cannot be read or written
    ├── RequestError                  a client asked for something that is no request
    ├── WorkerLost                    the process that computed a step died; another attempt may succeed
    └── Cancelled                     the run was cancelled; ends a node at its next check

Every error that reaches a person says what was attempted, where, why it failed and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong, and where: `node` and `port` on the canvas, `place` in the JSON text."""

    code: str
    message: str
    remedy: str = ""
    node: str = ""
    port: str = ""
    place: str = ""

    def to_dict(self) -> dict[str, str]:
        """As a client sees it; empty fields are left out."""
        return {name: value for name, value in zip(self._fields, self, strict=True) if value}

    def __str__(self) -> str:
        where = f"{self.node}.{self.port}" if self.node and self.port else self.node or self.place
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} {self.remedy}".strip()


class AnyloomError(Exception):
    """The root. `code` is stable and machine readable; the rest is for people."""

    code = "error"

    def __init__(
        self, message: str, *, remedy: str = "", code: str = "", node: str = "", port: str = "", place: str = ""
    ) -> None:
        super().__init__(message)
        # Nodes raise it with whatever they have, another exception say; here it becomes the text that goes to people.
        told = (str(part) for part in (code or type(self).code, message, remedy, node, port, place))
        self.problem = Problem(*told)

    @property
    def message(self) -> str:
        return self.problem.message

    def to_dict(self) -> dict[str, Any]:
        return self.problem.to_dict()

    def __str__(self) -> str:
        return str(self.problem)


class InvalidError(AnyloomError):
    """Carries every problem that was found, not only the first."""

    code = "invalid"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        first = self.problems[0]
        super().__init__(first.message, **{k: v for k, v in first._asdict().items() if k != "message"})

    def to_dict(self) -> dict[str, Any]:
        return {**self.problem.to_dict(), "problems": [problem.to_dict() for problem in self.problems]}

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class DocumentError(InvalidError):
    code = "invalid_document"


class GraphError(InvalidError):
    code = "invalid_graph"


class KindError(AnyloomError):
    code = "wrong_value"


class RegistryError(AnyloomError):
    code = "registry"


class NodeError(AnyloomError):
    code = "node_failed"


class OutOfMemory(NodeError):
    code = "out_of_memory"


class NotFoundError(AnyloomError):
    code = "not_found"


class PathError(AnyloomError):
    code = "path_outside"


class ModelError(AnyloomError):
    code = "model"


class StoreError(AnyloomError):
    code = "store"


class RequestError(AnyloomError):
    code = "bad_request"


class WorkerLost(AnyloomError):
    code = "worker_lost"


class Cancelled(AnyloomError):
    code = "cancelled"

    def __init__(self, message: str = "The run was cancelled.") -> None:
        super().__init__(message)
