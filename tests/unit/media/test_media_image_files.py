"""Pictures through files: what is written is read, every mode arrives, every damage has its error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pil

from graph_engine.errors import AnyloomError, Cancelled, NodeError, NotFoundError, PathError
from graph_engine.graph.kinds import FILE, IMAGE, MASK
from nodes.media import image_to_mask, load_image, load_mask, preview_image, save_image
from tests.contexts import FolderContext

torch.set_num_threads(1)


@pytest.fixture
def context(tmp_path: Path) -> FolderContext:
    return FolderContext(tmp_path, {"version": 1, "nodes": {}})


def picture(height: int = 24, width: int = 32, channels: int = 3) -> torch.Tensor:
    """ "1 H W C" of smooth colours, each an exact multiple of 1/255."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    planes = [x, y, (torch.sin(5 * (x + y)) + 1) / 2, 0.25 + x / 2][:channels]
    return (torch.stack(planes, -1) * 255).round().div(255).unsqueeze(0)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10(((a - b) ** 2).mean().clamp(min=1e-12)))


def put(context: FolderContext, image: pil.Image, name: str, **options: Any) -> str:
    image.save(context.root / "input" / name, **options)
    return name


@pytest.mark.parametrize(("format", "lossless"), [("png", False), ("webp", True)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossless_formats_are_exact(context: FolderContext, format: str, lossless: bool, channels: int) -> None:
    image = picture(channels=channels)
    (file,) = save_image(context, image, "folder/picture", format, lossless=lossless)
    FILE.check(file)
    assert file["name"] == f"folder/picture_00001.{format}"
    assert file["media_type"] == f"image/{format}"
    assert (file["width"], file["height"]) == (32, 24)
    loaded, mask = load_image(context, f"output/{file['name']}")
    IMAGE.check(loaded), MASK.check(mask)
    if channels == 4:
        assert torch.allclose(mask, 1 - image[..., 3], atol=1e-6)
        loaded, image = loaded * image[..., 3:].ceil(), image[..., :3] * image[..., 3:].ceil()
    else:
        assert torch.equal(mask, torch.zeros_like(mask))
    assert torch.equal(loaded, image.expand_as(loaded))


@pytest.mark.parametrize(("format", "least"), [("jpeg", 38), ("webp", 34)])
def test_lossy_formats_are_close(context: FolderContext, format: str, least: float) -> None:
    image = picture(96, 128)
    good, poor = (save_image(context, image, "p", format, quality=quality)[0] for quality in (95, 20))
    loaded, _ = load_image(context, f"output/{good['name']}")
    assert psnr(loaded, image) > least
    assert poor["bytes"] < good["bytes"]


def test_jpeg_lays_transparency_on_white(context: FolderContext) -> None:
    image = torch.zeros(1, 16, 16, 4)
    (file,) = save_image(context, image, "p", "jpeg")
    assert file["name"].endswith(".jpg")
    assert float(load_image(context, f"output/{file['name']}").image.min()) > 0.99


def test_a_batch_is_one_file_each_and_previews_are_temporary(context: FolderContext) -> None:
    batch = torch.cat([picture(), 1 - picture()])
    files = preview_image(context, batch)
    assert [file["folder"] for file in files] == ["temp", "temp"]
    assert torch.allclose(load_image(context, f"temp/{files[1]['name']}").image, batch[1:], atol=1e-6)
    assert [done for done, *_ in context.progressed] == [1, 2]


def test_cancelled_saving_ends(context: FolderContext) -> None:
    context.stop_after = 1
    with pytest.raises(Cancelled):
        save_image(context, picture().expand(5, -1, -1, -1))


MODES = {
    "1": lambda a: pil.fromarray(a > 100),
    "L": pil.fromarray,
    "LA": lambda a: pil.merge("LA", (pil.fromarray(a), pil.fromarray(a))),
    "RGB": lambda a: pil.fromarray(np.stack([a] * 3, -1)),
    "RGBA": lambda a: pil.fromarray(np.stack([a] * 4, -1)),
    "P": lambda a: pil.fromarray(np.stack([a] * 3, -1)).quantize(256),
    "I;16": lambda a: pil.fromarray(a.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_png_mode_arrives(context: FolderContext, mode: str) -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    image, mask = load_image(context, put(context, MODES[mode](grey), "p.png"))
    expected = torch.from_numpy((grey > 100) * 1.0 if mode == "1" else grey / 255.0).float()
    assert image.shape == (1, 8, 256, 3)
    assert image.dtype == torch.float32
    assert (image[0, ..., 0] - expected).abs().max() < (0.02 if mode == "P" else 1e-6)
    assert torch.allclose(mask[0], 1 - expected if mode in ("LA", "RGBA") else torch.zeros_like(expected), atol=1e-6)


def test_sixteen_bits_keep_their_steps(context: FolderContext) -> None:
    deep = (np.arange(65536).reshape(256, 256)).astype(np.uint16)
    image, _ = load_image(context, put(context, pil.fromarray(deep), "deep.png"))
    assert len(torch.unique(image)) == 65536
    dark = (np.arange(200).reshape(10, 20)).astype(np.uint16)
    assert load_image(context, put(context, pil.fromarray(dark), "dark.png")).image.max() < 0.01


def test_floats_cmyk_and_palette_transparency(context: FolderContext) -> None:
    floats = np.array([[0.0, 0.5, 2.0, np.nan]], np.float32)
    assert load_image(context, put(context, pil.fromarray(floats), "f.tiff")).image[0, 0, :, 0].tolist() == [
        0,
        0.5,
        1,
        0,
    ]
    red = pil.new("RGB", (16, 16), (255, 0, 0))
    image, _ = load_image(context, put(context, red.convert("CMYK"), "c.jpg", quality=95))
    assert (image[0, 8, 8] - torch.tensor([1.0, 0, 0])).abs().max() < 0.03
    palette = red.quantize(4)
    _, mask = load_image(context, put(context, palette, "t.png", transparency=0))
    assert torch.equal(mask, torch.ones_like(mask))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(context: FolderContext, orientation: int) -> None:
    exif = pil.Exif()
    exif[0x0112] = orientation
    image = pil.new("RGB", (32, 16), "white")
    image.paste((255, 0, 0), (0, 0, 8, 8))  # the red corner tells where the upper left one went
    loaded, _ = load_image(context, put(context, image, "o.jpg", exif=exif, quality=95, subsampling=0))
    assert loaded.shape[1:3] == ((16, 32) if orientation <= 4 else (32, 16))
    red = (loaded[0] - torch.tensor([1.0, 0, 0])).abs().sum(-1) < 0.2
    rows, columns = red.nonzero().float().mean(0).tolist()
    at_bottom, at_right = rows > loaded.shape[1] / 2, columns > loaded.shape[2] / 2
    expected = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
    assert (at_bottom, at_right) == expected[orientation]


def test_animations_give_the_first_frame_or_all(context: FolderContext) -> None:
    frames = [pil.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.webp"):
        put(context, frames[0], name, save_all=True, append_images=frames[1:], duration=100, lossless=True)
        assert load_image(context, name).image.shape == (1, 8, 8, 3)
        image, mask = load_image(context, name, "all")
        assert image.shape == (3, 8, 8, 3)
        assert mask.shape == (3, 8, 8)
        assert torch.equal(image[:, 4, 4], torch.eye(3))


# --- bad input ---------------------------------------------------------------------------------------------------


def encoded(format: str) -> bytes:
    buffer, noise = io.BytesIO(), np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    pil.fromarray(noise).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_are_named_damaged(context: FolderContext, format: str, part: float) -> None:
    data = encoded(format)
    (context.root / "input" / "cut.img").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(NodeError) as caught:
        load_image(context, "cut.img")
    problem = caught.value.problem
    assert problem.code in ("damaged_file", "unknown_format")
    assert problem.port == "file"
    assert "cut.img" in problem.message
    assert problem.remedy


def test_a_png_with_a_flipped_bit_is_damaged(context: FolderContext) -> None:
    data = bytearray(encoded("PNG"))
    data[len(data) // 2] ^= 0xFF
    (context.root / "input" / "bits.png").write_bytes(data)
    with pytest.raises(NodeError) as caught:
        load_image(context, "bits.png")
    assert caught.value.problem.code == "damaged_file"


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_file"), (b"hello, I am text", "unknown_format")])
def test_what_is_no_picture(context: FolderContext, data: bytes, code: str) -> None:
    (context.root / "input" / "x.png").write_bytes(data)
    with pytest.raises(NodeError) as caught:
        load_image(context, "x.png")
    assert caught.value.problem.code == code
    assert caught.value.problem.remedy


def test_bombs_are_refused_before_they_are_decoded(context: FolderContext) -> None:
    put(context, pil.new("1", (20_000, 20_000)), "bomb.png")
    with pytest.raises(NodeError) as caught:
        load_image(context, "bomb.png")
    assert caught.value.problem.code == "too_large"
    assert caught.value.problem.remedy


@pytest.mark.parametrize(
    ("name", "error"),
    [("absent.png", NotFoundError), ("../outside.png", PathError), ("/etc/passwd", PathError), ("a\0b", PathError)],
)
def test_paths_stay_inside(context: FolderContext, name: str, error: type[AnyloomError]) -> None:
    with pytest.raises(error) as caught:
        load_image(context, name)
    assert caught.value.problem.code
    assert caught.value.problem.remedy


def test_saving_outside_is_refused(context: FolderContext) -> None:
    with pytest.raises(PathError):
        save_image(context, picture(), "../../escape")


def test_a_mask_is_read_from_the_channel_asked_for(context: FolderContext) -> None:
    image = picture(channels=4)
    (file,) = save_image(context, image, "mask")
    name = f"output/{file['name']}"
    for channel in ("luma", "red", "green", "blue", "alpha"):
        mask = MASK.check(load_mask(context, name, channel))
        assert torch.allclose(mask, image_to_mask(image, channel), atol=1e-6), channel
        assert torch.allclose(load_mask(context, name, channel, invert=True), 1 - mask)
    white = torch.zeros(1, 8, 8, 3)
    white[:, 2:5, 3:6] = 1.0  # as the editor writes what was painted
    (file,) = save_image(context, white, "painted")
    assert torch.equal(load_mask(context, f"output/{file['name']}"), white[..., 0])
