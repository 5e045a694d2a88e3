"""`anyloom reset-queue`: a damaged queue out of the way, on a person's word."""

from __future__ import annotations

import argparse

from graph_engine.settings import Settings
from graph_engine.store.queue import RunQueue


def reset_queue(arguments: argparse.Namespace) -> int:
    """Raises StoreError while an engine uses the folder, NotFoundError when there is no queue."""
    folder = Settings().data_dir if arguments.data is None else arguments.data
    aside = RunQueue.move_aside(folder)
    print(f"the queue is now {aside}; the next start makes an empty one. Input, output and workflows are as they were.")
    return 0
