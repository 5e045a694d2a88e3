"""What `make demo` runs, as a new user has it: it ends by itself, and tells whether its answer is what was asked for."""

import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

TURN_S = 12.0
CORES = 2
"""The answer, with the model still to be loaded, takes at most so long on so many cores."""
CORE_FLOPS = 30e9
"""Of a core with AVX2, as they are lent out; where cores do less, the answer may take as much longer."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "web.cli", "demo", "--out", str(folder)]
    told, computed = [], {}
    piped = {"stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with (folder / "errors").open("w") as errors, psutil.Popen(command, stderr=errors, **piped) as running:
        watchdog = threading.Timer(300, running.kill)
        watchdog.start()
        for line in running.stdout:
            told.append(line)
            if (mark := line.split(" after")[0].split(" took")[0]) in ("server ready", "the run"):
                server = sum(sum(child.cpu_times()[:2]) for child in running.children(recursive=True))
                computed[mark] = server
        running.wait(timeout=60)
        watchdog.cancel()
    shown = "".join(told)
    assert running.returncode == 0, shown[-4000:] + (folder / "errors").read_text()[-2000:]
    judged = [line for line in told if line.startswith("judged ")]
    server = computed["the run"] - computed["server ready"]
    seconds = float(re.search(r"the run took ([\d.]+) s", shown)[1])
    return SimpleNamespace(folder=folder, told=shown, judged=judged, server=server, seconds=seconds)


def test_the_demo_ends_by_itself_with_words_a_picture_a_clip_and_a_sound(demo):
    assert [line.split(":")[0] for line in demo.judged] == ["judged .mp4", "judged .png", "judged .wav", "judged words"]
    for suffix in (".mp4", ".png", ".wav"):
        (path,) = demo.folder.glob(f"*{suffix}")
        assert path.stat().st_size > 500
    assert "server stopped" in demo.told


def test_everything_in_it_is_right(demo):
    assert not any("WRONG" in line for line in demo.judged)


def test_the_answer_is_no_more_work_than_two_cores_do_in_12_seconds(demo):
    """By the time that the server's processes computed, which others on the machine do not make much longer."""
    assert 0 < demo.server <= CORES * TURN_S * slowness(), f"the run took {demo.seconds} s"


def slowness():
    """How much slower a core of this machine is than one that multiplies matrices at `CORE_FLOPS`; 1 for faster ones."""
    a, b = torch.rand(1024, 512), torch.rand(512, 512)
    seconds = []
    for _ in range(20):
        begin = time.process_time()
        torch.mm(a, b)
        seconds.append(time.process_time() - begin)
    return max(1.0, CORE_FLOPS * min(seconds) / (2 * 1024 * 512 * 512))
