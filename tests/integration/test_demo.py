"""What `make demo` runs, as a new user has it: it ends by itself, and everything in the answer is what was asked for."""

import subprocess
import sys


def test_the_demo_answers_with_words_a_picture_a_clip_and_a_sound_that_are_right(tmp_path):
    command = [sys.executable, "-m", "web.cli", "demo", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    judged = [line for line in done.stdout.splitlines() if line.startswith("judged ")]
    assert [line.split(":")[0] for line in judged] == ["judged .mp4", "judged .png", "judged .wav", "judged words"]
    assert not any("WRONG" in line for line in judged)
    for suffix in (".mp4", ".png", ".wav"):
        (path,) = tmp_path.glob(f"*{suffix}")
        assert path.stat().st_size > 500
    assert "server stopped" in done.stdout
