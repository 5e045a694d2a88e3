"""What the networks refuse becomes an error of the node: with a code, the port, the reason and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graph_engine.errors import ModelError, NodeError


@contextmanager
def refusals(code: str, port: str = "") -> Iterator[None]:
    """ValueErrors raised inside, whose text is "what is wrong; what to do", leave as NodeErrors.

    One that knows which input is to blame (`model.unfit.Unfit`) names that port, with the code `bad_PORT`.
    """
    try:
        yield
    except ValueError as error:
        reason, remedy = _parts(error)
        blamed = getattr(error, "port", "")
        if blamed:
            code, port = f"bad_{blamed}", blamed
        raise NodeError(reason, remedy=remedy, code=code, port=port) from error


@contextmanager
def model_refusals(code: str) -> Iterator[None]:
    """The same for what is wrong with a model rather than with a call: they leave as ModelErrors."""
    try:
        yield
    except ValueError as error:
        reason, remedy = _parts(error)
        raise ModelError(reason, remedy=remedy, code=code) from error


def _parts(error: ValueError) -> tuple[str, str]:
    reason, _, remedy = str(error).rpartition("; ")
    return (_sentence(reason), _sentence(remedy)) if reason else (_sentence(remedy), "")


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[0].upper()}{text[1:]}." if text else ""
