"""What an error says, in one line."""

from __future__ import annotations


def first_line(error: BaseException, most: int = 160) -> str:
    """The first line of its text, at most so many characters; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__
