"""Quiet: no progress bars of libraries on a server's standard error; progress is told through the node's context."""

from __future__ import annotations


def quiet() -> None:
    """Takes effect for the process."""
    import warnings

    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    # Several LoRAs on one model are meant.
    warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
