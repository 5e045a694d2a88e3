"""Editing of pictures, batches and masks: sizes, places, values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_engine import NodeError
from graph_engine.graph.kinds import IMAGE, MASK
from nodes import media

torch.set_num_threads(1)

METHODS = ("lanczos", "bicubic", "bilinear", "area", "nearest")
MODES = ("stretch", "fit", "fill", "pad")


def gradient(height: int, width: int, channels: int = 3) -> torch.Tensor:
    return torch.linspace(0, 1, width).view(1, 1, width, 1).expand(1, height, width, channels).clone()


def code_of(call: Any, *inputs: Any, **named: Any) -> str:
    with pytest.raises(NodeError) as caught:
        call(*inputs, **named)
    assert caught.value.problem.remedy
    return caught.value.problem.code


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 50), st.integers(0, 50),
    st.sampled_from(MODES), st.sampled_from(METHODS),
)  # fmt: skip
def test_resize_gives_the_size_asked_for(
    height: int, width: int, new_width: int, new_height: int, mode: str, method: str
) -> None:
    image = gradient(height, width)
    resized = IMAGE.check(media.resize_image(image, new_width, new_height, mode, method))
    rows, columns = resized.shape[1:3]
    if new_width and new_height and mode != "fit":
        assert (rows, columns) == (new_height, new_width)
    elif new_width and new_height:
        assert rows <= new_height
        assert columns <= new_width
        assert rows == new_height or columns == new_width
    elif new_width:
        assert columns == new_width
    elif new_height:
        assert rows == new_height
    else:
        assert (rows, columns) == (height, width)


@pytest.mark.parametrize("method", METHODS)
def test_resizing_keeps_a_gradient(method: str) -> None:
    """A soft gradient halved and doubled is the gradient, away from the borders."""
    image = gradient(8, 64)
    small = media.resize_image(image, 32, 4, "stretch", method)
    expected = (image[:, ::2, ::2] + image[:, 1::2, 1::2])[0, 0, :, 0] / 2
    assert (small[0, 2, 3:-3, 0] - expected[3:-3]).abs().max() < (0.02 if method == "nearest" else 2e-3)
    large = media.resize_image(image, 128, 16, "stretch", method)
    assert large[0, 8, ::2, 0].diff().min() >= -1e-6


@pytest.mark.parametrize("method", ["lanczos", "bicubic", "bilinear", "area"])
def test_shrinking_has_no_aliases(method: str) -> None:
    stripes = (torch.arange(240) % 2).float().view(1, 1, 240, 1).expand(1, 16, 240, 3)
    small = media.resize_image(stripes, 60, 4, "stretch", method)
    assert (small[:, :, 4:-4] - 0.5).abs().max() < 0.05


def test_modes_place_the_picture() -> None:
    image = torch.ones(1, 10, 20, 3)
    padded = media.resize_image(image, 20, 20, "pad", "bilinear", 0.25)
    assert torch.equal(padded[0, :, 10, 0] == 1, torch.arange(20).sub(9.5).abs() < 5)
    assert padded[0, 0, 0, 0] == 0.25
    filled = media.resize_image(gradient(10, 30), 10, 10, "fill", "bilinear")
    assert torch.allclose(filled, gradient(10, 30)[:, :, 10:20])
    assert code_of(media.resize_image, image.expand(20, -1, -1, -1), 16_384, 16_384) == "too_large"


def test_crop_invert_turn() -> None:
    image = gradient(10, 20, 4)
    assert torch.equal(media.crop_image(image, 5, 2, 10, 3), image[:, 2:5, 5:15])
    assert media.crop_image(image, 15, 8, 100, 0).shape == (1, 2, 5, 4)
    assert code_of(media.crop_image, image, 20, 0) == code_of(media.crop_image, image, 0, 10) == "outside_picture"
    inverted = media.invert_image(image)
    assert torch.equal(inverted[..., 3], image[..., 3])
    assert torch.equal(inverted[..., :3], 1 - image[..., :3])
    assert torch.equal(media.turn_image(media.turn_image(image, "left"), "right"), image)
    assert media.turn_image(image, "left").shape == (1, 20, 10, 4)
    assert media.turn_image(image, "left")[0, 0, 0, 0] == 1  # the bright right edge is on top now
    assert torch.equal(media.turn_image(image, "half", True)[0, 0], image[0, 0])


def test_adjust_and_blur() -> None:
    image = gradient(16, 16)
    assert torch.allclose(media.adjust_image(image), image, atol=1e-6)
    assert torch.allclose(media.adjust_image(image, brightness=0.1), (image + 0.1).clamp(0, 1), atol=1e-6)
    assert torch.allclose(media.adjust_image(image, contrast=0.0), torch.tensor(0.5))
    colour = media.solid_image(4, 4, "#ff0000")
    assert torch.allclose(media.adjust_image(colour, saturation=0.0), torch.tensor(0.2126), atol=1e-4)
    assert torch.allclose(media.adjust_image(image, gamma=2.0), image**2, atol=1e-6)
    dot = torch.zeros(1, 31, 31, 3)
    dot[0, 15, 15] = 1
    blurred = IMAGE.check(media.blur_image(dot, 2.0))[0, ..., 0]
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    across = (blurred.sum(0) * (torch.arange(31) - 15.0) ** 2).sum()
    assert across == pytest.approx(4, rel=0.05)  # the variance is the radius squared
    assert torch.equal(media.blur_image(dot, 0.0), dot)


def test_composite() -> None:
    below, above = torch.zeros(1, 8, 8, 3), torch.ones(1, 4, 4, 3)
    assert media.composite_images(below, above, 2, 3).sum() == 48
    assert media.composite_images(below, above, -2, 6).sum() == 2 * 2 * 3
    assert not media.composite_images(below, above, 8, 0).any()
    assert media.composite_images(below, above, mask=torch.full((1, 2, 2), 0.5))[0, 1, 1, 0] == 0.5
    assert media.composite_images(below, torch.cat([above, above[..., :1] * 0.25], -1))[0, 0, 0, 0] == 0.25
    assert media.composite_images(below.expand(3, -1, -1, -1), above, opacity=0.5).shape == (3, 8, 8, 3)
    assert code_of(media.composite_images, below.expand(3, -1, -1, -1), above.expand(2, -1, -1, -1)) == "batch_mismatch"


def test_solid() -> None:
    assert media.solid_image(2, 3, "#336699", 2)[1, 2, 1].mul(255).round().tolist() == [0x33, 0x66, 0x99]
    for color in ("red", "#12", "#12345678"):
        assert code_of(media.solid_image, 2, 2, color) == "bad_color"


def test_batches() -> None:
    red, wide, grey = media.solid_image(4, 4, "#ff0000"), torch.ones(2, 4, 8, 3), torch.zeros(1, 4, 4, 1)
    batch = media.image_batch(image10=grey, image2=[wide], image1=red)
    assert batch.shape == (4, 4, 4, 3)
    assert torch.equal(batch[0], red[0])
    assert not batch[3].any()
    assert batch[1].all()
    assert code_of(media.image_batch, "error", a=red, b=wide) == "size_mismatch"
    assert code_of(media.image_batch) == "nothing_connected"
    assert torch.equal(media.list_to_images(media.images_to_list(batch)), batch)
    assert torch.equal(media.select_images(batch, -2, 1), batch[2:3])
    assert torch.equal(media.select_images(batch, 1, 0), batch[1:])
    assert code_of(media.select_images, batch, 4) == "no_such_item"
    assert media.image_info(batch) == (4, 4, 4, 3)


def test_concat() -> None:
    one, two = torch.zeros(1, 4, 6, 3), torch.ones(1, 8, 4, 3)
    assert media.concat_images(one, two).shape == (1, 4, 8, 3)
    down = media.concat_images(one, two, "down")
    assert down.shape == (1, 16, 6, 3)
    assert not down[:, :4].any()
    assert down[:, 4:].min() > 0.99
    assert media.concat_images(one, two, "left")[0, 0, 0, 0] > 0.99
    assert code_of(media.concat_images, one, two, "right", "error") == "size_mismatch"


def test_masks() -> None:
    image = torch.rand(2, 4, 6, 3)
    assert torch.equal(media.image_to_mask(image, "green"), image[..., 1])
    assert MASK.check(media.image_to_mask(image)).shape == (2, 4, 6)
    assert media.image_to_mask(image, "alpha").all()
    mask = torch.rand(1, 4, 6)
    assert torch.equal(media.mask_to_image(mask)[..., 2], mask)
    assert torch.equal(media.invert_mask(mask), 1 - mask)
    joined = media.join_alpha(image, mask)
    assert torch.allclose(joined[..., 3], (1 - mask).expand(2, -1, -1))
    assert torch.equal(joined[..., :3], image)
    assert torch.allclose(media.image_to_mask(joined, "alpha"), 1 - mask)
    assert media.join_alpha(image, torch.zeros(1, 8, 12)).shape == (2, 4, 6, 4)
