"""Heat maps: numbers over an area as colours, and colours back as numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from graph_engine import Image, Json, Mask, NodeError, Widget, node
from graph_engine.graph.kinds import describe

CATEGORY = "data/chart"
Colours = Literal["viridis", "inferno", "coolwarm", "gray"]
UNIT = Annotated[float, Widget(min=0.0, max=1.0, step=0.05)]


@node(id="data.heat_map", category=CATEGORY)
def heat_map(
    mask: Mask, over: Image | None = None, colours: Colours = "inferno", opacity: UNIT = 0.6, stretch: bool = True
) -> Image:
    """A mask "B H W" as colours: IMAGE "B H W 3". over: a picture that shines through. stretch: use all of the colours."""
    import torch

    values = mask
    if stretch:
        low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
        values = (values - low) / (high - low).clamp_min(1e-12)
    painted = _paint(values, colours)
    if over is None:
        return painted
    ground = over[..., :3].expand(-1, -1, -1, 3)
    if ground.shape[0] not in (1, painted.shape[0]) and painted.shape[0] != 1:
        raise NodeError(
            f"{painted.shape[0]} masks do not fit over {ground.shape[0]} pictures.",
            remedy="Give as many of both, or one of either.",
            code="wrong_batch",
            port="over",
        )
    if painted.shape[1:3] != ground.shape[1:3]:
        size = (int(ground.shape[1]), int(ground.shape[2]))
        painted = torch.nn.functional.interpolate(painted.permute(0, 3, 1, 2), size, mode="bilinear").permute(
            0, 2, 3, 1
        )
    return (ground * (1 - opacity) + painted * opacity).clamp(0, 1)


@node(id="data.matrix_to_mask", category=CATEGORY)
def matrix_to_mask(matrix: Json) -> Mask:
    """Numbers [[...], ...] as a mask "1 H W", the smallest 0 and the largest 1; a matrix of one value becomes 0."""
    import torch

    rows = matrix if isinstance(matrix, list) else []
    width = len(rows[0]) if rows and isinstance(rows[0], list) else 0
    ok = width > 0 and all(isinstance(row, list) and len(row) == width for row in rows)
    if not ok or not all(type(x) in (int, float) for row in rows for x in row):
        raise NodeError(
            f"a matrix is a list of equally long lists of numbers, got {describe(matrix)}.",
            remedy="Give it as [[1, 2], [3, 4]].",
            code="no_matrix",
            port="matrix",
        )
    values = torch.tensor(rows, dtype=torch.float64)
    low, high = values.min(), values.max()
    return ((values - low) / (high - low if high > low else 1.0)).float()[None]


@node(id="data.read_heat_map", category=CATEGORY)
def read_heat_map(image: Image, colours: Colours = "inferno") -> Mask:
    """The numbers of a heat map "B H W 3" as a mask "B H W": for each pixel the place of the nearest colour of the scale."""
    import torch

    scale = _scale(colours)
    out = []
    for picture in image[..., :3].expand(-1, -1, -1, 3):
        pixels = picture.reshape(-1, 3)
        nearest = [torch.cdist(part, scale).argmin(1) for part in pixels.split(65536)]
        out.append(torch.cat(nearest).reshape(picture.shape[:2]).float() / (len(scale) - 1))
    return torch.stack(out)


def _paint(values: Any, colours: str) -> Any:
    """Linear between the 256 colours of a scale."""
    scale = _scale(colours)
    place = values.clamp(0, 1) * (len(scale) - 1)
    low = place.floor().long().clamp(max=len(scale) - 2)
    part = (place - low)[..., None]
    return scale[low] * (1 - part) + scale[low + 1] * part


def _scale(colours: str) -> Any:
    """float32 "256 3"."""
    import numpy
    import torch
    from matplotlib import colormaps

    return torch.from_numpy(colormaps[colours](numpy.linspace(0, 1, 256))[:, :3].astype(numpy.float32))
