"""What may be wrong with a media file, as errors that say it; and files that must not stay half written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graph_engine.errors import NodeError


def damaged(path: Path, what: str, reason: object) -> NodeError:
    """A file that is of a known format and broken."""
    return NodeError(
        f"the {what} file {path.name} ({_bytes(path)} bytes) cannot be read: {short(reason, path)}.",
        remedy="The file is damaged or incomplete: copy or upload it again, or export it anew.",
        code="damaged_file",
        port="file",
    )


def unknown(path: Path, what: str, known: str) -> NodeError:
    """A file in which no known format was recognised."""
    return NodeError(
        f"{path.name} ({_bytes(path)} bytes) is no {what} file of a known format.",
        remedy=f"Choose another file, or convert it to {known}.",
        code="unknown_format",
        port="file",
    )


def too_large(what: str, size: str, limit: str, remedy: str, port: str = "file") -> NodeError:
    """A file that would not fit into memory once decoded."""
    return NodeError(
        f"{what} would take {size}, more than the limit of {limit}.", remedy=remedy, code="too_large", port=port
    )


def refuse_empty(path: Path, what: str) -> None:
    """Raise for a file of zero bytes, which no format allows."""
    if _bytes(path) == 0:
        raise NodeError(
            f"the {what} file {path.name} is empty (0 bytes).",
            remedy="Copy or upload it again.",
            code="empty_file",
            port="file",
        )


@contextmanager
def complete_or_gone(path: Path, what: str) -> Iterator[None]:
    """Write a file inside: it is removed when writing fails or is cancelled, so no half file stays behind."""
    try:
        yield
    except OSError as error:
        path.unlink(missing_ok=True)
        raise NodeError(
            f"the {what} file {path.name} cannot be written: {error.strerror or error}.",
            remedy="Check the free space and the rights of the output folder.",
            code="cannot_write",
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def short(reason: object, path: Path) -> str:
    """A library's reason without the folders of this machine, which are nobody's business."""
    return str(reason).replace(str(path), path.name).rstrip(".")


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
