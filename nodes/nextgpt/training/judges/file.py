"""Judging what a workflow saved: a file of a picture, a clip or a sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodes.nextgpt.training.judges.verdict import Verdict, judge
from nodes.nextgpt.training.media import as_value, waves
from nodes.nextgpt.training.media_file import MediaFile

_LONGEST_S = 30


def judge_file(wish: Mapping[str, Any], path: Path) -> Verdict:
    """Whether the file has what was wished for (`judge`). Raises what reading it raises."""
    medium = MediaFile(str(wish["modality"]), path)
    if medium.modality == "audio":
        audio: Any = as_value(medium)
        seconds = min(_LONGEST_S, audio["waveform"].shape[-1] / audio["sample_rate"])
        return judge(wish, waves([medium], round(seconds * 16_000), "cpu")[0])
    value: Any = as_value(medium)
    return judge(wish, value["frames"] if medium.modality == "video" else value[0])
