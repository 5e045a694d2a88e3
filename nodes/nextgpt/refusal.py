"""What the networks refuse becomes an error of the node: with a code, the port, the reason and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graph_engine.errors import NodeError


@contextmanager
def refusals(code: str, port: str = "") -> Iterator[None]:
    """ValueErrors raised inside, whose text is "what is wrong; what to do", leave as NodeErrors.

    One that knows which input is to blame (`model.unfit.Unfit`) names that port, with the code `bad_PORT`.
    """
    try:
        yield
    except ValueError as error:
        reason, _, remedy = str(error).rpartition("; ")
        if not reason:
            reason, remedy = remedy, ""
        blamed = getattr(error, "port", "")
        if blamed:
            code, port = f"bad_{blamed}", blamed
        raise NodeError(_sentence(reason), remedy=_sentence(remedy), code=code, port=port) from error


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[0].upper()}{text[1:]}." if text else ""
