"""`anyloom chat` as people use it, through a pipe, a terminal and a server; and chats of several at once."""

import asyncio
import contextlib
import io
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from graph_engine import AsyncClient, Engine, Settings
from nodes.nextgpt.conversation_file import media_of, outline
from tests.protocol.live import LiveServer
from web.cli import main
from web.server import Server

# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[2]
MEDIA = ROOT / "workflows" / "media"
CHAT = json.loads((ROOT / "workflows" / "chat.json").read_text(encoding="utf-8"))
CHAT["nodes"]["models"]["values"]["preset"] = "tiny"  # which answers anything with a picture at once
COMMAND = [sys.executable, "-m", "web.cli", "chat"]
QUICK = [
    "--set",
    "draw.steps=2",
    "--set",
    "play.steps=2",
    "--set",
    "think.max_new_tokens=24",
    "--set",
    "models.preset=tiny",
    "--set",
    "think.temperature=0.7",
]


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ANYLOOM_TOKEN", raising=False)
    shutil.copy(MEDIA / "lighthouse.png", tmp_path / "light house.png")
    return tmp_path


@pytest.fixture
def talk(models_dir, monkeypatch, capsys):
    """Lines into a chat in this process; (exit code, standard output, standard error)."""

    def run(*lines, flags=()):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        place = [] if "--server" in flags else ["--models-dir", str(models_dir)]
        code = main(["chat", "--plain", *place, *QUICK, *flags])
        return (code, *capsys.readouterr())

    return run


def texts(path):
    return [part["text"].strip() for turn in outline(path)["turns"] for part in turn["parts"] if part["type"] == "text"]


def asked(path):
    """The user's words, turn by turn."""
    turns = [turn["parts"] for turn in outline(path)["turns"] if turn["role"] == "user"]
    return ["".join(part["text"] for part in parts if part["type"] == "text") for parts in turns]


def types(path):
    return [[part["type"] for part in turn["parts"]] for turn in outline(path)["turns"]]


def test_three_turns_through_a_pipe(here, models_dir):
    lines = ["draw a cat", "'light house.png'", "what is <image> this?", "/set audio always", "now let me hear it"]
    command = [*COMMAND, "--plain", "--out", "res", "--models-dir", str(models_dir), *QUICK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    spoken = "\n".join(lines).encode() + b" \xff"
    done = subprocess.run(command, input=spoken, capture_output=True, timeout=120, env=environment)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line.startswith("  res/") for line in said] == [False, True, False, True, False, True, True]
    assert all(len(line.split()) > 10 for line in said if not line.startswith("  res/")), "the words of the answers"
    for line in said:
        if line.startswith("  res/"):
            path, facts = re.fullmatch(r"  (res/\S+)  \((.*)\)", line).groups()
            assert f"{Path(path).stat().st_size:,} bytes" in facts
    for name in ("picture_00001.png", "picture_00002.png", "picture_00003.png"):
        with Image.open(here / "res" / name) as picture:
            assert picture.size == (64, 64)
    assert (here / "res" / "sound_00001.wav").stat().st_size > 10_000
    assert "attached light house.png" in done.stderr
    last = here / "data" / "output" / "chat_00003.json"
    kinds = types(last)
    assert asked(last)[-1] == "now let me hear it \ufffd", "a byte that is no text is no trouble"
    assert [len(outline(last.with_name(f"chat_0000{n}.json"))["turns"]) for n in (1, 2, 3)] == [2, 4, 6]
    assert kinds[2] == ["text", "image", "text"]
    assert (kinds[1].count("image"), kinds[5].count("image"), kinds[5].count("audio")) == (1, 1, 1)
    asyncio.run(second_turn_sees_the_first_picture(here, models_dir))


async def second_turn_sees_the_first_picture(here, models_dir):
    """What reaches the language model in turn 2 has the features of the picture that turn 1 drew, computed here anew."""
    document = json.loads(json.dumps(CHAT))
    document["nodes"] |= {
        "drawn": {"type": "media.load_image", "values": {"file": "output/picture_00001.png"}},
        "seen": {"type": "nextgpt.encode_image", "links": {"image": "drawn.image", "encoder": "models.encoder"}},
        "expected": {
            "type": "nextgpt.project_in",
            "links": {"embedding": "seen.embedding", "projector": "models.input_projector"},
        },
    }
    document["targets"] = ["fit", "expected"]
    values = {"message.text": "and now?", "history.file": "output/chat_00001.json"}
    async with await Engine.open(Settings(data_dir=here / "data", models_dir=models_dir)) as engine:
        record = await engine.submit(document, values=values)
        record = await engine.wait(record.id)
        assert record.status == "succeeded", record.errors
        found = [record.result["fit"]["conversation"], record.result["expected"]["tokens"]]
        turns, expected = [await engine.artifact(entry["artifact"], entry["port"]) for entry in found]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    (features,) = [part for part in turns[1]["parts"] if part["type"] == "features"]
    assert torch.equal(features["tensor"], expected["tensor"][0])
    assert not [part for part in turns[1]["parts"] if part["type"] == "signal"], "they stand for its signal"


def test_bad_lines_leave_the_chat_alive(here, talk):
    (here / "broken.json").write_text('{"format": "anyloom-conversation", "version": 1, "turns": [{"role": "assistant"')
    (here / "order.json").write_text(
        json.dumps({"format": "anyloom-conversation", "version": 1, "turns": [{"role": "assistant", "parts": []}]})
    )
    wrong = {
        "/nope": "there is no command /nope",
        "/image missing.png": "there is no file 'missing.png'",
        "/nowhere/cat.png": "there is no file '/nowhere/cat.png'",
        "/load nobody": "there is no saved chat 'out/nobody.zip'",
        "/load broken.json": "broken.json is no conversation that can be read: not valid JSON",
        "/load order.json": "turn 1 must be the user's",
        "/set temprature 1": "Did you mean temperature",
        "/set temperature 99": "99.0 is outside 0..5",
        "/image broken.json": "",
        "read that": "Message: broken.json",
        "draw a cat": "",
    }
    code, out, err = talk(*wrong)
    assert code == 1, "a pipe is told that something went wrong"
    for says in wrong.values():
        assert says in err
    assert "  out/picture_00001.png  (64 x 64" in out, "the last line was answered"
    assert err.count("error: ") == 9


def test_undo_again_save_and_load(here, talk):
    code, out, err = talk(
        "/again", "/undo", "/trace", "first", "/trace", "second", "/undo", "/history", "/again 5", "/again 6", "third",
        "/save trip", "/clear", "/history", "/load trip", "fourth",
    )  # fmt: skip
    assert code == 0, err
    assert "taken back: second" in err
    assert "seed 5\n" in err
    assert "picture 1 at token" in err
    _, _, after = err.partition("a new chat begins.")
    assert "nothing was said yet." in after
    assert "third" in after
    outputs = here / "data" / "output"
    assert asked(outputs / "chat_00001.json") == ["first"]
    assert asked(outputs / "chat_00002.json") == ["first", "second"]
    redone = [texts(outputs / f"chat_0000{number}.json") for number in (3, 4)]
    assert [words[0] for words in redone] == ["first", "first"]
    assert redone[0][1] != redone[1][1], "another seed, another answer"
    last = texts(outputs / "chat_00006.json")
    assert last[:2] == redone[1][:2]
    assert asked(outputs / "chat_00006.json") == ["first", "third", "fourth"]
    with zipfile.ZipFile(here / "out" / "trip.zip") as archive:
        document = json.loads(archive.read("conversation.json"))
        assert set(media_of(document)) == set(archive.namelist()) - {"conversation.json"}
        assert len(document["turns"]) == 4
    assert re.search(r"  out/trip\.zip  \([\d,]+ bytes\)", out)


def test_a_decoder_that_fails_leaves_the_rest(here, talk):
    document = json.loads(json.dumps(CHAT))
    document["nodes"]["other"] = {"type": "nextgpt.load", "values": {"preset": "tiny-v1.5"}}
    document["nodes"]["draw"]["links"]["decoder"] = "other.image_decoder"
    document["nodes"]["think"]["values"]["audio"] = "always"
    (here / "mixed.json").write_text(json.dumps(document))
    code, out, err = talk("draw a cat and let it purr", "and again", flags=["--workflow", "mixed.json"])
    assert code == 1
    assert err.count("error: Decode picture: The condition must be [B, rows, 1024]") == 2
    assert err.count("the rest of the answer is kept.") == 2
    assert "picture" not in out
    assert out.count("  out/sound_0000") == 2
    (path,) = (path for path in (here / "data" / "output").glob("chat_*.json") if len(types(path)) == 4)
    assert types(path)[1].count("signal") == 2, "the picture stays a signal"
    assert "audio" in types(path)[1] and "image" not in types(path)[1]


@pytest.mark.parametrize(("flags", "says"), [
    (["--workflow", "text_to_image"], "no nodes of type nextgpt.message"),
    (["--workflow", "nobody"], "there is no workflow 'nobody'"),
    (["--set", "think.temperature=99"], "99.0 is outside 0..5"),
    (["--server", "http://127.0.0.1:9"], "no Anyloom server answers"),
])  # fmt: skip
def test_a_chat_that_cannot_begin_says_why(here, talk, flags, says):
    code, out, err = talk("hello", flags=flags)
    assert (code, out) == (1, "")
    assert says in err


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command, **options):
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, **options
        )
        os.close(slave)
        self.seen = ""

    def pressed(self, key, mark):
        """What a key brings up to `mark`. As a person does, it is pressed again where nothing comes of it: Python's line editor
        misses a signal that comes while it handles another key, not while it waits."""
        for _ in range(12):
            self.type(key)
            with contextlib.suppress(AssertionError):
                return self.until(mark, 5)
        raise AssertionError(f"{mark!r} never came: {self.seen!r}")

    def until(self, mark, seconds=60):
        """What was shown up to `mark`, which is taken off."""
        end = time.monotonic() + seconds
        while mark not in self.seen:
            assert time.monotonic() < end, f"{mark!r} never came: {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 1 << 16).decode()
                except OSError:  # the command has ended
                    end = 0.0
        found, _, self.seen = self.seen.partition(mark)
        return found

    def type(self, keys):
        os.write(self.master, keys.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait(20)
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 1 << 16):
                self.seen += data.decode()
        os.close(self.master)
        return code


def test_ctrl_c_stops_an_answer_and_not_the_chat(here, models_dir):
    """With a controlling terminal, so that Ctrl-C is a signal as it is for a person."""
    program = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        "from web.cli import main; sys.exit(main(['chat', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", program, "--models-dir", str(models_dir), "--set", "draw.steps=500", *QUICK[2:]]
    terminal = Terminal(command, env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"})
    try:
        assert "type a message, or /help" in terminal.until("you> ")
        terminal.type("draw a cat\n")
        shown = terminal.until("/500")
        assert "Reason ..." in shown and "Decode picture" in shown, "what is at work is shown"
        assert len(max(re.split(r"\x1b\[[0-9;]*[mK]|\r|\n", shown), key=len).split()) > 10, "the words came before"
        terminal.type("\x03")
        assert "stopped; the chat goes on where it was." in terminal.until("you> ")
        terminal.type("/set draw.steps 2\n")
        terminal.until("you> ")
        terminal.type("/again\n")
        assert "out/picture_00001.png" in terminal.until("you> ")
        terminal.type("half a line")
        terminal.until("half a line")
        assert "/quit or Ctrl-D ends the chat." in terminal.pressed("\x03", "you> ")
        terminal.type("\x04")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.close()
    assert len(texts(here / "data" / "output" / "chat_00001.json")) >= 2


class ChatServer(LiveServer):
    """With the models of NExT-GPT."""

    async def _start(self):
        self.engine = await Engine.open(self.settings)
        self.server = Server(self.engine, limits=self.limits, **self.flags)
        await self.server.start()
        self.flags["port"] = self.server.port


@pytest.fixture
def server(tmp_path, models_dir):
    with ChatServer(tmp_path / "server", more={"models_dir": models_dir}) as live:
        yield live


def test_two_chats_on_one_server_never_mix(server, tmp_path):
    """Interleaved and at once; the server restarts in between."""
    quick = {"draw.steps": 2, "think.max_new_tokens": 24}

    async def turn(text, history="", files=()):
        async with AsyncClient(server.url, name=text) as client:
            names = [await client.upload(file) for file in files]
            values = {"message.text": text, "message.files": names, "history.file": history, **quick}
            result = await client.run("chat", values)
            assert result.ok, result.errors
            file = result.outputs["save_chat"]["file"]["file"]
            return f"{file['folder']}/{file['name']}", result.outputs["reply"]["text"]

    async def both(*turns):
        return await asyncio.gather(*turns)

    (cat, said_of_cat), (boat, said_of_boat) = asyncio.run(
        both(turn("draw a cat"), turn("what boat is this?", files=[MEDIA / "lighthouse.png"]))
    )
    assert said_of_cat != said_of_boat
    server.restart()
    (cat, _), (boat, _) = asyncio.run(both(turn("at night", cat), turn("in a storm", boat)))
    other, _ = asyncio.run(turn("by day", cat))
    folder = tmp_path / "server"
    assert asked(folder / cat) == ["draw a cat", "at night"]
    assert asked(folder / boat) == ["what boat is this?", "in a storm"]
    assert asked(folder / other) == ["draw a cat", "at night", "by day"]
    assert texts(folder / other)[: len(texts(folder / cat))] == texts(folder / cat), (
        "it goes on from the cat's own words"
    )
    assert types(folder / boat)[0] == ["image", "text"]
    shared = set(media_of(outline(folder / cat))) & set(media_of(outline(folder / boat)))
    assert not shared


def test_chat_on_a_server(here, server, talk):
    flags = ["--server", server.url]
    code, out, err = talk("/image light house.png", "what is this?", "/save trip", "/history", flags=flags)
    assert code == 0, err
    assert "  out/picture_00001.png  (64 x 64" in out
    assert "1 user: [picture image-" in err
    assert types(here / "out" / "trip.zip")[0] == ["image", "text"]
    assert not (here / "data").exists(), "no engine of its own"
    server.restart()
    code, out, err = talk("/load trip", "and at night?", "/save longer", flags=flags)
    assert code == 0, err
    assert asked(here / "out" / "longer.zip") == ["what is this?", "and at night?"]
