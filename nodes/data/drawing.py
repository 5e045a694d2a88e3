"""Figures by matplotlib, as IMAGE "1 H W 3".

Its settings are global to the process, so one figure is drawn at a time, with settings of its own.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

DPI = 100
PALETTE = ("#3b7dd8", "#e07b39", "#3f9c6a", "#b84a5e", "#7d5fb2", "#8a7a4f", "#c46aa7", "#4fa3b5", "#6b7280", "#b5a42f")
WITH_HAN = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei")
_LOCK = threading.Lock()


def draw(width: int, height: int, paint: Callable[[Any], None]) -> Any:
    """What `paint(figure)` puts on a white figure of width x height pixels: float32 "1 H W 3"."""
    import matplotlib
    import numpy
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _LOCK, matplotlib.rc_context(_style()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # it is drawn as a box
        warnings.filterwarnings(
            "ignore", message=".*[Ll]ayout.*"
        )  # a figure too small for its labels is drawn without them
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
        pixels = numpy.asarray(canvas.buffer_rgba())[..., :3].astype(numpy.float32) / 255
    return torch.from_numpy(pixels)[None]


def _style() -> Any:
    from cycler import cycler

    return {
        "font.family": [*_han(), "DejaVu Sans"],
        "text.parse_math": False,
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e5e7eb",
        "axes.edgecolor": "#9ca3af",
        "axes.titleweight": "bold",
        "figure.facecolor": "white",
        "legend.frameon": False,
    }


@lru_cache(maxsize=1)
def _han() -> tuple[str, ...]:
    """The font families of this machine that have Chinese characters; none is no error."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in WITH_HAN if name in there)[:1]
