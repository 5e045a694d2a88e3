"""Draws and synthesises the sample media of this folder: `python workflows/media/make.py`.

    lighthouse.png   256 x 256, a lighthouse by the sea at dusk
    bell.wav         2 s, 16 kHz mono, one strike of a bell
    waves.mp4        2 s, 8 frames per second, 96 x 96, waves at night with their sound
    heart.png        64 x 64, a large orange heart of the small world, which the preset `mini` knows
    violin.wav       2 s, 16 kHz mono, the small world's note E on a violin, twice
    rising_star.mp4  2 s, 4 frames per second, 64 x 64, a red star that moves up, with the sound that belongs to it

Everything follows from the code and a fixed seed; nothing is downloaded. Needs the packages of the project only.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from nodes.media.audio_file import write_audio  # noqa: E402
from nodes.media.image_file import write_image  # noqa: E402
from nodes.media.video_file import write_video  # noqa: E402
from nodes.nextgpt.training.world.clip import FPS, Clip, film  # noqa: E402
from nodes.nextgpt.training.world.picture import draw_scenes  # noqa: E402
from nodes.nextgpt.training.world.rule import sound_of_clip  # noqa: E402
from nodes.nextgpt.training.world.scene import Scene, Thing  # noqa: E402
from nodes.nextgpt.training.world.sound import SAMPLE_RATE, Sound, play  # noqa: E402

Array = np.ndarray[Any, Any]
SIZE, FINER = 256, 4
SIDE = SIZE * FINER
HORIZON = 0.64
SUN = (0.27, 0.615)
SKY = [
    (0.0, (24, 26, 66)),
    (0.22, (58, 44, 104)),
    (0.42, (142, 70, 120)),
    (0.55, (226, 112, 96)),
    (0.64, (255, 186, 104)),
]
SEA = [(0.64, (214, 130, 104)), (0.69, (134, 82, 112)), (0.8, (58, 52, 96)), (1.0, (16, 22, 54))]
WHITE, RED, STONE = (238, 230, 222), (196, 48, 52), (30, 24, 40)


def gradient(stops: list[tuple[float, tuple[int, int, int]]], rows: Array) -> Array:
    """Colours "N 3" at the heights `rows` "N"."""
    places = [place for place, _ in stops]
    return np.stack([np.interp(rows, places, [color[channel] for _, color in stops]) for channel in range(3)], -1)


def smooth_noise(random: np.random.Generator, height: int, width: int, blur: float) -> Array:
    """ "height width" in 0..1, soft blobs."""
    noise = Image.fromarray((random.random((height, width)) * 255).astype(np.uint8))
    field = np.asarray(
        noise.filter(ImageFilter.GaussianBlur(blur)).resize((SIDE, SIDE), Image.Resampling.BICUBIC), float
    )
    return (field - field.min()) / (field.max() - field.min())


def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
    """Points in 0..1 as pixels of the large canvas."""
    return [(x * SIDE, y * SIDE) for x, y in points]


def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return left * SIDE, top * SIDE, right * SIDE, bottom * SIDE


def lighthouse() -> Image.Image:
    random = np.random.default_rng(7)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    canvas = np.where((y < HORIZON)[..., None], gradient(SKY, y[:, 0])[:, None], gradient(SEA, y[:, 0])[:, None])

    # the sun, half behind the horizon, and its glow
    distance = np.hypot(x - SUN[0], (y - SUN[1]) * 1.15)
    above = (y < HORIZON)[..., None]
    glow = np.exp(-((distance / 0.22) ** 1.3))[..., None]
    canvas = np.where(above, canvas + glow * np.array([120, 74, 20]), canvas)
    disc = np.clip((0.062 - np.hypot(x - SUN[0], y - SUN[1])) * SIDE / 3, 0, 1)[..., None]
    canvas = np.where(above, canvas * (1 - disc) + np.array([255, 238, 186]) * disc, canvas)

    # clouds: long streaks, lit from below
    streaks = smooth_noise(random, 160, 22, 2.2)
    cover = np.clip((streaks - 0.56) * 5, 0, 1) * np.exp(-(((y - 0.44) / 0.11) ** 2))
    lit = np.array([255, 150, 120]) * (1 - distance)[..., None] + np.array([96, 56, 110]) * distance[..., None]
    canvas = np.where(above, canvas * (1 - 0.6 * cover[..., None]) + lit * 0.6 * cover[..., None], canvas)

    # the sea: ripples that grow towards the shore, and the path of the sun
    depth = np.clip((y - HORIZON) / (1 - HORIZON), 1e-3, 1)
    ripple = np.sin(90 * np.log(depth + 0.05) + 7 * smooth_noise(random, 90, 14, 2)) * (0.4 + depth)
    path = (
        np.exp(-(((x - SUN[0]) / (0.035 + 0.13 * depth)) ** 2)) * (0.35 + 0.65 * (ripple > 0.12)) * (1 - 0.72 * depth)
    )
    sea = canvas + ripple[..., None] * np.array([9, 8, 14]) + path[..., None] * np.array([190, 126, 52])
    canvas = np.where(above, canvas, sea)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))

    _stars(image, random)
    _gulls(image)
    _boat(image)
    _beam(image)
    _headland(image, random)
    _tower(image)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _stars(image: Image.Image, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(46):
        x, y, size = random.random() * SIDE, random.random() ** 1.6 * 0.34 * SIDE, random.choice([1.2, 1.6, 2.6])
        draw.ellipse((x - size, y - size, x + size, y + size), fill=(255, 246, 226))


def _gulls(image: Image.Image) -> None:
    draw = ImageDraw.Draw(image)
    for x, y, span in ((0.36, 0.33, 0.026), (0.43, 0.295, 0.02), (0.315, 0.285, 0.016)):
        for side in (-1, 1):
            wing = [(x + side * span * t, y - span * 0.5 * math.sin(math.pi * t**0.8)) for t in np.linspace(0, 1, 12)]
            draw.line(at(*wing), fill=(44, 30, 58), width=5, joint="curve")


def _boat(image: Image.Image) -> None:
    draw = ImageDraw.Draw(image)
    draw.polygon(at((0.083, 0.652), (0.158, 0.652), (0.146, 0.671), (0.094, 0.671)), fill=(40, 26, 46))
    draw.polygon(at((0.121, 0.575), (0.121, 0.647), (0.159, 0.647)), fill=(250, 214, 176))
    draw.polygon(at((0.117, 0.59), (0.117, 0.647), (0.089, 0.647)), fill=(214, 158, 146))
    for number in range(4):
        top, width = 0.677 + number * 0.011, 0.032 - number * 0.005
        draw.rectangle(box(0.12 - width, top, 0.12 + width, top + 0.004), fill=(66, 44, 76))


def _beam(image: Image.Image) -> None:
    """Two cones of light from the lantern, brightest at their start."""
    light = Image.new("L", image.size)
    draw = ImageDraw.Draw(light)
    draw.polygon(at((0.695, 0.216), (-0.05, 0.03), (-0.05, 0.24)), fill=150)
    draw.polygon(at((0.695, 0.216), (1.05, 0.15), (1.05, 0.26)), fill=150)
    x = np.abs(np.mgrid[0:SIDE, 0:SIDE][1] / SIDE - 0.695)
    fade = Image.fromarray((np.exp(-x / 0.34) * 255).astype(np.uint8))
    light = ImageChops.multiply(light.filter(ImageFilter.GaussianBlur(9)), fade)
    image.paste(Image.new("RGB", image.size, (255, 236, 176)), mask=light)


def _headland(image: Image.Image, random: np.random.Generator) -> None:
    xs = np.linspace(0.36, 1.0, 60)
    rise = 0.2 * np.clip((xs - 0.36) / 0.34, 0, 1) ** 0.75 - 0.02 * np.clip((xs - 0.8) / 0.2, 0, 1)
    ridge = 0.905 - rise + random.normal(0, 0.004, len(xs))
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(at(*zip(xs, ridge, strict=True), (1.0, 1.0), (0.3, 1.0)), fill=255)
    # the rock: a rough relief whose faces towards the sun catch the last light
    relief = 0.6 * smooth_noise(random, 40, 26, 1.1) + 0.4 * smooth_noise(random, 120, 70, 1.3)
    facing = np.clip(-90 * np.gradient(relief, axis=1) - 60 * np.gradient(relief, axis=0), -1, 1)[..., None]
    sinking = np.linspace(1, 0, SIDE)[None, :, None] * 0.6 + 0.4
    rock = np.array(STONE) + np.clip(facing, 0, 1) * np.array([96, 50, 48]) * sinking + np.clip(-facing, 0, 1) * -12
    image.paste(Image.fromarray(np.clip(rock, 0, 255).astype(np.uint8)), mask=mask)
    draw = ImageDraw.Draw(image)
    for x in np.linspace(0.62, 0.99, 90):  # grass
        top = np.interp(x, xs, ridge)
        lean, tall = random.normal(-0.006, 0.005), random.uniform(0.008, 0.022)
        draw.line(at((x, top + 0.006), (x + lean, top - tall)), fill=(48, 50, 54), width=4)
    foam = Image.new("L", image.size)  # where the sea meets the rock
    spray = ImageDraw.Draw(foam)
    for t in np.linspace(0, 1, 120):
        x, y = 0.295 + 0.125 * t + random.normal(0, 0.007), 0.995 - 0.115 * t + random.normal(0, 0.005)
        size = random.uniform(0.001, 0.006) * (1.3 - t)
        spray.ellipse(
            box(x - size * 2.2, y - size * 0.7, x + size * 2.2, y + size * 0.7), fill=int(random.integers(90, 230))
        )
    image.paste(Image.new("RGB", image.size, (232, 208, 210)), mask=foam.filter(ImageFilter.GaussianBlur(2)))


def _tower(image: Image.Image) -> None:
    top, foot, center = 0.262, 0.725, 0.695

    def half(height: Any) -> Any:
        """Half the width of the tower there."""
        return 0.036 + 0.034 * ((height - top) / (foot - top)) ** 1.15

    bands = Image.new("RGB", image.size, WHITE)
    draw = ImageDraw.Draw(bands)
    for number in range(1, 7, 2):
        low, high = (top + (foot - top) * (number + step) / 7 for step in (0, 1))
        draw.rectangle(box(0, low, 1, high), fill=RED)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    round_ = np.clip((x - center) / np.maximum(half(np.clip(y, top, foot)), 1e-3), -1, 1)
    shade = np.clip(1.04 - 0.3 * (round_ + 0.35) ** 2 - 0.34 * np.clip(round_, 0, 1), 0.3, 1.05)[..., None]
    warm = np.where(round_[..., None] < 0, np.array([1.0, 0.94, 0.86]), np.array([0.9, 0.86, 0.98]))
    bands = Image.fromarray(np.clip(np.asarray(bands) * shade * warm, 0, 255).astype(np.uint8))
    mask = Image.new("L", image.size)
    heights = np.linspace(top, foot, 40)
    left = [(center - half(height), height) for height in heights]
    right = [(center + half(height), height) for height in heights[::-1]]
    ImageDraw.Draw(mask).polygon(at(*left, *right), fill=255)
    image.paste(bands, mask=mask)

    draw = ImageDraw.Draw(image)
    for height in (0.375, 0.51, 0.635):  # windows, lit
        draw.rounded_rectangle(box(center - 0.012, height, center + 0.01, height + 0.034), 12, fill=(74, 40, 48))
        draw.rounded_rectangle(
            box(center - 0.008, height + 0.005, center + 0.006, height + 0.03), 8, fill=(255, 206, 112)
        )
    draw.rounded_rectangle(box(center - 0.02, 0.684, center + 0.016, 0.726), 14, fill=(58, 30, 40))  # door
    draw.rectangle(box(center - 0.056, 0.252, center + 0.056, 0.266), fill=(52, 38, 54))  # gallery
    for x_ in np.linspace(center - 0.052, center + 0.052, 9):
        draw.line(at((x_, 0.232), (x_, 0.252)), fill=(52, 38, 54), width=4)
    draw.line(at((center - 0.054, 0.232), (center + 0.054, 0.232)), fill=(52, 38, 54), width=5)
    draw.rectangle(box(center - 0.03, 0.188, center + 0.03, 0.253), fill=(255, 240, 190))  # lantern
    for x_ in (-0.03, -0.01, 0.01, 0.03):
        draw.line(at((center + x_, 0.188), (center + x_, 0.253)), fill=(70, 44, 54), width=5)
    draw.polygon(at((center - 0.042, 0.19), (center, 0.142), (center + 0.042, 0.19)), fill=RED)  # roof
    draw.polygon(at((center, 0.142), (center + 0.042, 0.19), (center + 0.008, 0.19)), fill=(142, 34, 46))
    draw.line(at((center, 0.118), (center, 0.144)), fill=(52, 38, 54), width=6)
    draw.ellipse(box(center - 0.007, 0.112, center + 0.007, 0.126), fill=(52, 38, 54))
    halo = np.exp(-((np.hypot(x - center, y - 0.216) / 0.055) ** 2)) * 0.75
    mask = Image.fromarray((halo * 255).astype(np.uint8))
    image.paste(Image.new("RGB", image.size, (255, 240, 190)), mask=mask)


def bell(rate: int = 16_000, seconds: float = 2.0) -> torch.Tensor:
    """ "1 T": the partials of a church bell from the hum upwards, each dying away on its own."""
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    prime = 440.0
    partials = [(0.5, 0.5, 1.6), (1.0, 0.8, 1.1), (1.2, 0.7, 0.8), (1.5, 0.35, 0.6), (2.0, 1.0, 0.7)]
    partials += [(2.5, 0.3, 0.4), (3.0, 0.35, 0.3), (4.0, 0.25, 0.2), (5.4, 0.12, 0.1), (6.8, 0.08, 0.06)]
    sound = torch.zeros_like(time)
    for ratio, strength, lasting in partials:
        for share, beat in ((0.8, 0.0), (0.2, 1.1 + 0.7 * ratio)):  # no bell is quite round: each partial is a pair
            wave = torch.sin(2 * math.pi * (prime * ratio + beat) * time)
            sound += share * strength * wave * torch.exp(-time / lasting)
    noise = torch.randn(len(time), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sound += 0.5 * noise * torch.exp(-time / 0.006)  # the clapper
    sound *= (time / 0.002).clamp(max=1) * ((seconds - time) / 0.15).clamp(0, 1)
    return (0.85 * sound / sound.abs().max()).float().unsqueeze(0)


def waves(count: int = 16, fps: float = 8.0, size: int = 96) -> dict[str, Any]:
    """VIDEO of moonlit waves that roll towards the shore, with their rush. Two seconds are one period: it loops."""
    y, x = np.mgrid[0:size, 0:size] / size
    frames = []
    for number in range(count):
        turn = 2 * math.pi * number / count
        sky = gradient([(0.0, (10, 16, 44)), (0.4, (44, 70, 112))], y[:, 0])[:, None] * np.ones((1, size, 1))
        moon = np.clip((0.09 - np.hypot(x - 0.7, y - 0.17)) * size, 0, 1)[..., None]
        halo = np.exp(-((np.hypot(x - 0.7, y - 0.17) / 0.16) ** 2))[..., None]
        picture = sky + halo * np.array([60, 60, 50])
        picture = picture * (1 - moon) + np.array([250, 246, 222]) * moon
        for layer in range(5):
            height = 0.42 + 0.12 * layer
            swell = 0.018 + 0.008 * layer
            crest = height + swell * np.sin(
                2 * math.pi * (1.5 - 0.2 * layer) * x + turn * (1 if layer % 2 else -1) + layer * 1.7
            )
            crest = crest + 0.012 * math.sin(turn + layer)
            color = np.array([30, 66, 104]) * (1 - layer / 6) + np.array([14, 96, 118]) * (layer / 6)
            below = np.clip((y - crest) * size, 0, 1)[..., None]
            depth = np.clip((y - crest) / 0.14, 0, 1)[..., None]
            picture = picture * (1 - below) + (color * (1.15 - 0.5 * depth)) * below
            foam = np.exp(-(((y - crest - 0.008) / 0.01) ** 2))[..., None] * (0.25 + 0.14 * layer)
            shine = (
                np.exp(-(((x - 0.7) / 0.12) ** 2))[..., None] * np.exp(-(((y - crest - 0.02) / 0.02) ** 2))[..., None]
            )
            picture = picture + foam * np.array([150, 170, 176]) + shine * np.array([110, 104, 80]) * 0.8
        frames.append(np.clip(picture, 0, 255) / 255)
    rate = 16_000
    time = torch.arange(round(count / fps * rate), dtype=torch.float64) / rate
    noise = torch.randn(len(time), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    spectrum = torch.fft.rfft(noise)
    hertz = torch.fft.rfftfreq(len(time), 1 / rate).clamp(min=40)
    rush = torch.fft.irfft(spectrum / (hertz / 400) ** 0.9 / (1 + (hertz / 2500) ** 2), len(time))
    rush = rush * (0.4 + 0.6 * torch.sin(math.pi * time / time[-1]) ** 2)
    audio = {"waveform": (0.5 * rush / rush.abs().max()).float().view(1, 1, -1), "sample_rate": rate}
    return {"frames": torch.from_numpy(np.stack(frames)).float(), "fps": fps, "audio": audio}


def small_world(folder: Path) -> None:
    """Media that `nodes/nextgpt/training/world` is made of."""
    picture = draw_scenes([Scene((Thing("heart", "orange", "large", "centre"),), "white")])[0]
    write_image(folder / "heart.png", picture, "png")
    write_audio(
        folder / "violin.wav", play([Sound("E", "low", "violin", "twice", "steady", "loud")]), SAMPLE_RATE, "wav"
    )
    clip = Clip("star", "red", "up", "white")
    audio = {"waveform": play([sound_of_clip(clip)])[:, None], "sample_rate": SAMPLE_RATE}
    write_video(folder / "rising_star.mp4", {"frames": film([clip])[0], "fps": float(FPS), "audio": audio}, "mp4", 85)


def main(folder: Path = HERE) -> None:
    lighthouse().save(folder / "lighthouse.png", optimize=True)
    write_audio(folder / "bell.wav", bell(), 16_000, "wav")
    write_video(folder / "waves.mp4", waves(), "mp4", 85)
    small_world(folder)
    for path in sorted(folder.glob("*.[pwm][nap][gv4]")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
