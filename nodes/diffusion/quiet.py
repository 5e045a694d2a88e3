"""Quiet: no progress bars of libraries on a server's standard error; progress is told through the node's context."""

from __future__ import annotations


def quiet() -> None:
    """Takes effect for the process."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
