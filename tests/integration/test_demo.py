"""What `make demo` runs, as a new user has it: it ends by itself, and tells whether its answer is what was asked for."""

import subprocess
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "web.cli", "demo", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    judged = [line for line in done.stdout.splitlines() if line.startswith("judged ")]
    return SimpleNamespace(folder=folder, told=done.stdout, judged=judged)


def test_the_demo_ends_by_itself_with_words_a_picture_a_clip_and_a_sound(demo):
    assert [line.split(":")[0] for line in demo.judged] == ["judged .mp4", "judged .png", "judged .wav", "judged words"]
    for suffix in (".mp4", ".png", ".wav"):
        (path,) = demo.folder.glob(f"*{suffix}")
        assert path.stat().st_size > 500
    assert "server stopped" in demo.told


def test_everything_in_it_is_right(demo):
    assert not any("WRONG" in line for line in demo.judged)
