"""The sample media that the repository ships: small, readable, what they say they are."""

from __future__ import annotations

from pathlib import Path

import torch

from graph_engine.graph.kinds import AUDIO, IMAGE, VIDEO
from nodes.media import load_audio, load_image, load_video
from tests.contexts import FolderContext

torch.set_num_threads(1)
SAMPLES = Path(__file__).resolve().parents[3] / "workflows" / "media"


def test_the_samples_load(tmp_path: Path) -> None:
    context = FolderContext(tmp_path)
    limits = {"lighthouse.png": 150_000, "bell.wav": 80_000, "waves.mp4": 150_000}
    for name, limit in limits.items():
        data = (SAMPLES / name).read_bytes()
        assert len(data) < limit
        (tmp_path / "input" / name).write_bytes(data)
    image, mask = load_image(context, "lighthouse.png")
    assert IMAGE.check(image).shape == (1, 256, 256, 3)
    assert not mask.any()
    assert image.std() > 0.1
    bell = AUDIO.check(load_audio(context, "bell.wav"))
    assert bell["waveform"].shape == (1, 1, 32_000)
    assert bell["sample_rate"] == 16_000
    loudness = bell["waveform"].view(4, -1).square().mean(1)
    assert (loudness.diff() < 0).all()  # it dies away
    waves = VIDEO.check(load_video(context, "waves.mp4"))
    assert waves["frames"].shape == (16, 96, 96, 3)
    assert waves["fps"] == 8.0
    assert waves["audio"]["waveform"].abs().max() > 0.1
    assert waves["frames"].diff(dim=0).abs().mean() > 0.005  # it moves
