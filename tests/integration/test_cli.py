"""The command line, as a person types it."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graph_engine import Client
from graph_engine.store.folders import Folders
from tests.protocol.live import TRIAL_NODES, LiveServer, two, workflow
from web.cli import main
from web.commands.progress import Bars, PlainLines
from web.samples import put_samples

NODES = ["--custom-nodes", str(TRIAL_NODES)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYLOOM_TOKEN", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("cli")) as server:
        yield server


def write(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_run_prints_the_text_and_tells_by_its_exit_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "two.json", two())
    assert main(["run", file, *NODES, "--set", "a.value=good day"]) == 0
    out, err = capsys.readouterr()
    assert out == "good day\n"
    assert re.search(r"^started   2 nodes$", err, re.MULTILINE)
    assert re.search(r"^done      out  \d+ ms$", err, re.MULTILINE)
    assert re.search(r"^succeeded after \d+\.\d\d s$", err, re.MULTILINE)


@pytest.mark.parametrize(
    ("nodes", "targets", "code"),
    [
        ({"f": ("trial.fail", {"message": "never"}), "a": "trial.echo"}, ["f", "a"], 2),
        ({"f": ("trial.fail", {"message": "never"})}, ["f"], 1),
    ],
)
def test_exit_codes_of_failures(
    here: Path, capsys: pytest.CaptureFixture[str], nodes: dict[str, object], targets: list[str], code: int
) -> None:
    file = write(here / "fails.json", workflow(nodes, targets))
    assert main(["run", file, *NODES]) == code
    err = capsys.readouterr().err
    assert "failed    f  never" in err
    assert "error: f.message: never Say yes." in err


def test_streamed_text_is_shown_while_it_comes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "chunks.json", workflow({"c": ("trial.chunks", {"count": 3})}, ["c"]))
    assert main(["run", file, *NODES]) == 0
    out, err = capsys.readouterr()
    assert "text      c  word0 word1 word2 \n" in err
    assert out == "word0 word1 word2 \n"


def test_values_are_text_or_json_as_the_input_wants(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {"t": "control.text", "n": "trial.add", "e": "trial.echo"}
    file = write(here / "values.json", workflow(nodes, list(nodes)))
    settings = ["--set", "t.value=42", "--set", "n.a=42", "--set", "e.value=@@home"]
    assert main(["run", file, *NODES, *settings]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == ["42", "@home"]
    assert main(["run", file, *NODES, "--set", "n.a=many"]) == 1
    assert "n.a: expected a whole number, got str 'many'" in capsys.readouterr().err


def test_files_go_in_and_come_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "note.txt").write_text("from a file")
    nodes = {"l": ("media.load_text", {"file": ""}), "s": ("media.save_text", {}, {"text": "l.text"})}
    file = write(here / "files.json", workflow(nodes))
    assert main(["run", file, "--set", "l.file=@note.txt", "--out", "results"]) == 0
    [path] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("results/")]
    assert Path(path).read_text() == "from a file"
    assert main(["run", file, "--set", "l.file=@ghost.txt"]) == 1
    assert "there is no file 'ghost.txt'" in capsys.readouterr().err


@pytest.mark.parametrize("server", [False, True], ids=["here", "server"])
def test_files_of_one_name_all_come_out(
    here: Path, live: LiveServer, capsys: pytest.CaptureFixture[str], server: bool
) -> None:
    pictures = {
        side: ("media.solid_image", {"color": color, "width": 8, "height": 8})
        for side, color in (("left", "#ff0000"), ("right", "#0000ff"))
    }
    saves = {
        f"save_{side}": ("media.save_image", {"name": f"{side}/pic"}, {"image": f"{side}.image"}) for side in pictures
    }
    file = write(here / "both.json", workflow({**pictures, **saves}))
    assert main(["run", file, "--out", "out", *(["--server", live.url] if server else [])]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(path.parts[:2] for path in paths) == [("out", "left"), ("out", "right")]
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_what_cannot_be_sent_is_said(here: Path, live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(here / "two.json", two())
    assert (
        main(["run", file, "--server", live.url, "--set", f"a.value={'9' * 30}", "--set", f"ghost.a={'9' * 30}"]) == 1
    )
    assert "the request cannot be sent: Integer value out of range" in capsys.readouterr().err


def test_run_on_a_server(here: Path, live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "note.txt").write_text("over the wire")
    nodes = {"l": ("media.load_text", {"file": ""}), "s": ("media.save_text", {}, {"text": "l.text"})}
    file = write(here / "files.json", workflow(nodes))
    server = ["--server", live.url]
    assert main(["run", file, *server, "--set", "l.file=@note.txt", "--name", "cli run"]) == 0
    [path] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("out/")]
    assert Path(path).read_text() == "over the wire"
    assert main(["runs", *server]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"[0-9a-f]{32}  succeeded .* cli run$", listed, re.MULTILINE)
    live.server.house.library.save(
        "cli/two", {**two("named"), "title": "Two", "asks": [{"node": "a", "input": "value"}]}
    )
    assert main(["workflows", *server]) == 0
    assert "cli/two  Two\n    --set a.value=..." in capsys.readouterr().out
    assert main(["run", "cli/two", *server]) == 0
    assert capsys.readouterr().out == "named\n"
    run = live.do(live.engine.submit(workflow({"w": ("trial.wait", {"seconds": 30})}, ["w"])))
    assert main(["cancel", run.id, *server]) == 0
    assert capsys.readouterr().out == "cancelled.\n"
    assert live.do(live.engine.wait(run.id, 5)).status == "cancelled"
    assert main(["cancel", run.id, *server]) == 0
    assert capsys.readouterr().out == "it had ended already.\n"


def test_timelines_are_written(here: Path, live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(here / "w.json", two("timed"))
    assert main(["run", path, "--plain", "--timeline", "local.json", *NODES]) == 0
    assert main(["run", path, "--plain", "--timeline", "remote.json", "--server", live.url]) == 0
    [run, *_] = live.do(live.engine.runs(limit=1))
    capsys.readouterr()
    assert main(["runs", run.id, "--timeline", "again.json", "--server", live.url]) == 0
    assert "again.json" in capsys.readouterr().out
    names = []
    for name in ("local.json", "remote.json", "again.json"):
        events = json.loads((here / name).read_text())["traceEvents"]
        names.append([event["name"] for event in events if event["ph"] == "X" and event["cat"] == "steps"])
    assert names == [["a", "out"]] * 3
    assert main(["runs", "--timeline", "none.json", "--server", live.url]) == 1
    assert "anyloom runs ID --timeline FILE" in capsys.readouterr().err


def test_one_run_is_shown(here: Path, live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {
        "a": ("trial.echo", {"value": "first\nsecond"}),
        "out": ("trial.show", {}, {"value": "a.value"}),
        "f": ("trial.fail", {"message": "never"}),
        "s": ("media.save_text", {"text": "kept", "name": "shown"}),
    }
    path = write(here / "w.json", workflow(nodes, ["out", "f", "s"]))
    assert main(["run", path, "--plain", "--name", "one to see", "--server", live.url]) == 2
    [run, *_] = live.do(live.engine.runs(limit=1))
    capsys.readouterr()
    assert main(["runs", run.id, "--server", live.url]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{run.id}  partial  one to see\n")
    for fact in ("nodes      4", "created    20", "finished   20", "took       0."):
        assert f"\n  {fact}" in shown
    assert re.search(r"^error: f.*: .*never", shown, re.MULTILINE)
    assert "\nout.value: first\nsecond\n" in shown
    assert re.search(r"^s\.file: output/shown_\d+\.txt$", shown, re.MULTILINE)
    assert main(["runs", "ghost", "--server", live.url]) == 1
    assert "there is no run 'ghost'" in capsys.readouterr().err


def test_a_damaged_queue_is_put_aside_as_the_error_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my data").mkdir()
    (here / "my data" / "runs.sqlite3").write_bytes(b"not a database at all" * 1000)
    run = ["run", write(here / "two.json", two("again")), "--plain", "--data", "my data", *NODES]
    assert main(run) == 1
    said = capsys.readouterr().err
    [command] = re.findall(r"`anyloom (.*?)`", said)
    assert main(shlex.split(command)) == 0
    aside = re.search(r"is now (.+?);", capsys.readouterr().out)
    assert aside and Path(aside[1]).read_bytes().startswith(b"not a database")
    assert main(run) == 0
    assert "again" in capsys.readouterr().out
    assert main(["reset-queue", "--data", "ghost"]) == 1
    assert "there is no run queue ghost/runs.sqlite3" in capsys.readouterr().err
    assert not (here / "ghost").exists()


def test_a_queue_in_use_is_not_put_aside(here: Path, live: LiveServer, capsys: pytest.CaptureFixture[str]) -> None:
    folder = live.engine.settings.data_dir
    assert main(["reset-queue", "--data", str(folder)]) == 1
    assert "in use by another engine" in capsys.readouterr().err
    assert (folder / "runs.sqlite3").is_file()


def test_nodes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", *NODES]) == 0
    assert re.search(r"^trial\.add +a \+ b\.$", capsys.readouterr().out, re.MULTILINE)
    assert main(["nodes", "trial.add", *NODES]) == 0
    assert "  a    INT              default 0, 0..100000" in capsys.readouterr().out
    assert main(["nodes", "trial.add", "--json", *NODES]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "trial.add"
    assert main(["nodes", "trial.ad", *NODES]) == 1
    assert "Did you mean 'trial.add'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "ghost"], "there is no workflow 'ghost'"),
        (["run", "ghost.json"], "there is no file 'ghost.json'"),
        (["run", "broken.json"], "not valid JSON"),
        (["runs", "--server", "http://127.0.0.1:9"], "no Anyloom server answers at http://127.0.0.1:9"),
        (["run", "list.json"], "a workflow is a JSON object"),
        (["run", "two.json", "--out", "broken.json"], "'broken.json' cannot be used: File exists"),
        (["run", "two.json", "--timeline", "ghost/t.json"], "'ghost/t.json' cannot be used: No such file"),
        (["run", "two.json", "--data", "broken.json"], "'broken.json' cannot be used: File exists"),
        (["serve", "--data", "broken.json"], "'broken.json' cannot be used: File exists"),
        (["inspect", "ghost.png"], "there is no file 'ghost.png'"),
    ],
)
def test_what_cannot_be_done_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    (here / "broken.json").write_text("{")
    (here / "list.json").write_text("[]")
    words = [*words, *NODES] if write(here / "two.json", two()) in [str(here / word) for word in words] else words
    assert main(words) == 1
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["serve", "--port", "http"], "use a port in 1..65535"),
        (["serve", "--cache", "lots"], "use classic, lru:N"),
        (["serve", "--disk-cache", "big"], "use a size such as 500MB, 10GB, or off"),
        (["serve", "--custom-nodes", "ghost"], "there is no such folder"),
        (["run", "x", "--set", "nothing"], "write node.input=value"),
        (["run", "x", "--set", "a.text=\udcff"], "write it in UTF-8"),
        (["run", "x", "--server", "localhost"], "use an address such as http://127.0.0.1:8188"),
        (["runs", "--status", "odd"], "invalid choice: 'odd'"),
        (["runs", "--limit", "-3"], "use a whole number in 1..1000"),
        (["runs", "--limit", "0"], "use a whole number in 1..1000"),
        (["runs", "--limit", "1001"], "use a whole number in 1..1000"),
        (["runs", "--limit", "9" * 5000], "use a whole number in 1..1000"),
    ],
)
def test_a_mistyped_flag_says_what_is_allowed(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 64
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["", "serve", "run", "nodes", "workflows", "runs", "cancel", "inspect", "reset-queue"]
)
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*filter(None, [command]), "--help"])
    assert caught.value.code == 0
    assert "usage: anyloom" in capsys.readouterr().out


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "web.cli", *words],
        cwd=cwd,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ready(process: subprocess.Popen[str]) -> str:
    """The address that `serve` prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(r"Anyloom is ready at (\S+)", line):
            return match[1]
    raise AssertionError(process.stderr.read() if process.stderr else "")


def test_serve_is_light_and_stops_cleanly_and_unfinished_runs_go_on(here: Path) -> None:
    began = time.perf_counter()
    process = start("serve", "--port", "0", "--data", "data", *NODES, cwd=here)
    try:
        url = ready(process)
        seconds = time.perf_counter() - began
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0]) // 1024
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        print(f"ready after {seconds:.2f} s with {resident} MB")
        assert resident <= 150
        assert "libtorch" not in maps
        with Client(url) as client:
            assert client.run(two()).ok
            run = client.submit(workflow({"w": ("trial.wait", {"seconds": 0.6})}, ["w"]))
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=10)
        assert process.returncode == 0, err
        assert out.endswith("stopping ...\n")
        assert "Traceback" not in err
    finally:
        process.kill()
    again = start("serve", "--port", "0", "--data", "data", *NODES, cwd=here)
    try:
        with Client(ready(again)) as client:
            assert client.wait(run).status == "succeeded"
        again.send_signal(signal.SIGINT)
        assert again.wait(10) == 0
    finally:
        again.kill()
        again.communicate()


def test_serve_for_others_has_a_token_and_a_taken_port_is_said(here: Path) -> None:
    process = start("serve", "--host", "0.0.0.0", "--port", "0", cwd=here)
    try:
        url = ready(process)
        address, _, token = url.partition("/?token=")
        assert len(token) >= 32
        with Client(address) as client, pytest.raises(Exception, match="wants a token"):
            client.hello()
        with Client(address, token) as client:
            assert client.hello()["server"] == "anyloom"
        port = address.rpartition(":")[2]
        second = start("serve", "--host", "0.0.0.0", "--port", port, "--data", "other", cwd=here)
        _, err = second.communicate(timeout=20)
        assert second.returncode == 1
        assert f"port {port} is taken" in err
        assert "Traceback" not in err
    finally:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.parametrize("server", [False, True], ids=["in the process", "on a server"])
def test_ctrl_c_cancels_the_run(here: Path, live: LiveServer, server: bool) -> None:
    file = write(here / "slow.json", workflow({"w": ("trial.wait", {"seconds": 30})}, ["w"]))
    process = start("run", file, *(["--server", live.url] if server else []), *NODES, cwd=here)
    assert process.stderr is not None
    for line in process.stderr:
        if "running   w" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 130, err
    assert "cancelled after" in err
    if server:
        assert live.do(live.engine.runs(limit=1))[0].status == "cancelled"


def test_samples_are_there_and_nobodys_file_is_replaced(here: Path) -> None:
    folders = Folders(here / "input", here / "output", here / "temp")
    (here / "input" / "bell.wav").write_bytes(b"mine")
    put_samples(folders)
    assert (here / "input" / "bell.wav").read_bytes() == b"mine"
    assert (here / "input" / "lighthouse.png").read_bytes()[:4] == b"\x89PNG"
    assert not (here / "input" / "make.py").exists()


def test_progress_in_plain_lines_is_sparse_and_leaves_streamed_text_alone() -> None:
    out = io.StringIO()
    with PlainLines(out) as lines:
        for number in range(100):
            lines.show({"type": "progress", "node": "d", "done": number + 1, "total": 100})
            lines.show({"type": "chunk", "node": "t", "text": f"{number % 10}"})
            lines.show({"type": "progress", "node": "t", "done": number + 1, "total": 100})
    text = out.getvalue()
    assert text.count("progress  d") == 4
    assert "progress  t" not in text
    assert "text      t  01234" in text


def test_bars_on_a_terminal() -> None:
    """Every event finds its place in the bars; odd names and texts do no harm."""
    out = io.StringIO()
    events = [
        {"type": "queued"},
        {"type": "started", "nodes": 4},
        {"type": "cached", "nodes": ["x"]},
        {"type": "running", "node": "[bold]a"},
        {"type": "progress", "node": "[bold]a", "done": 1, "total": 2, "message": "[/]"},
        {"type": "chunk", "node": "[bold]a", "text": "some [text]"},
        {"type": "log", "node": "[bold]a", "message": "[red]"},
        {"type": "done", "node": "[bold]a", "ms": 3.0},
        {"type": "failed", "node": "b", "error": {"message": "no.", "remedy": "Yes."}},
        {"type": "finished", "status": "partial", "seconds": 1.0},
    ]
    with Bars(out) as bars:
        for event in events:
            bars.show(event)
    text = out.getvalue()
    assert "done      [bold]a  3 ms" in text
    assert "[bold]a: some [text]" in text
    assert "failed    b  no. Yes." in text


def test_inspect_shows_the_workflow_inside_a_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = {"i": ("media.solid_image", {}), "s": ("media.save_image", {}, {"image": "i.image"})}
    document = workflow(nodes, title="A grey square")
    assert main(["run", write(here / "square.json", document), "--out", "made"]) == 0
    [path] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("made/")]
    assert main(["inspect", path]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A grey square"
    assert main(["run", path, "--out", "again"]) == 0
    (here / "plain.txt").write_text("nothing")
    assert main(["inspect", "plain.txt"]) == 1
    assert "holds no workflow" in capsys.readouterr().err


def test_nothing_heavy_is_imported_for_help() -> None:
    code = "import sys, web.cli; web.cli.parser(); print({'torch', 'aiohttp', 'numpy', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "set()"
