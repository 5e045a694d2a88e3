"""Every shipped workflow, run by the engine as it is: its files exist, open and hold something."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from graph_engine import Engine, Settings
from graph_engine.graph.document import parse
from nodes.media.workflow_metadata import read_workflow
from nodes.nextgpt.conversation_file import outline
from nodes.nextgpt.training.data.talks import read_set

pytestmark = [
    pytest.mark.asyncio,
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
EXPECTED = {
    "answer": {"save_draw", "save_film", "save_play", "save_chat", "save_page", "reply"},
    "any_to_any": {"save_draw", "save_film", "save_play", "save_reply", "reply", "trace"},
    "chat": {"save_draw", "save_film", "save_play", "save_chat", "reply", "trace"},
    "create": {"save_draw", "save_film", "save_play", "save_page", "reply"},
    "draw_describe_sound": {"save_draw", "save_play", "reply"},
    "caption_route": {"save_draw", "save_play", "reply"},
    "draw_then_sound": {"save_draw", "save_play", "first_reply", "reply"},
    "explain": {"save_draw", "save_film", "save_chart", "save_page", "reply"},
    "image_to_audio": {"save_play", "reply", "trace"},
    "image_to_text": {"reply", "save_reply"},
    "make_mosit": {"save_set", "save_preview", "save_left_out", "save_problems", "save_chart", "report"},
    "narrate": {"save_words", "save_speech", "save_film", "reply"},
    "report": {"save_table", "save_chart", "save_page", "reply"},
    "speak_draw_caption": {"save_both", "caption"},
    "text_to_audio": {"save_play", "reply", "trace"},
    "text_to_image": {"save_draw", "reply", "trace"},
    "text_to_video": {"save_film", "reply", "trace"},
    "two_generators": {"save_left", "save_right", "save_both"},
    "upscale_video": {"save_film", "save_large", "reply"},
    "video_to_text": {"reply", "save_reply"},
}
"""The results that a workflow must have; those named save_* are files."""
UNASKED = {"answer": {"save_draw", "save_film"}, "chat": {"save_film", "save_play"}}
"""Files that come only when the model asks for them, which it does not here."""


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def open_engine(tmp_path, models_dir):
    (tmp_path / "input").mkdir()
    for path in (FOLDER / "media").iterdir():
        if path.suffix in (".png", ".wav", ".mp4"):
            shutil.copy(path, tmp_path / "input" / path.name)
    return Engine.open(Settings(data_dir=tmp_path, models_dir=models_dir))


async def run(engine, document):
    record = await engine.submit(document)
    record = await engine.wait(record.id)
    assert record.status == "succeeded", record.errors
    return record


def files_of(record):
    """{target: FILE value}, the first one of a list."""
    found = {}
    for name, ports in record.result.items():
        entry = ports.get("file")
        while isinstance(entry, list):
            entry = entry[0]
        if entry and "skipped" not in entry:
            found[name] = entry["file"]["file"] if "file" in entry["file"] else entry["file"]
    return found


def check_picture(path, fact):
    with Image.open(path) as picture:
        assert picture.size == (fact["width"], fact["height"])
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    assert pixels.shape[0] == 64
    assert pixels.shape[1] in (64, 128)
    assert pixels.std() > 8, "a picture with nothing on it"
    chroma = pixels.max(-1) - pixels.min(-1)
    assert 0.01 < (chroma > 60).mean() < 0.5, "things of a colour on a ground without"
    assert np.median(chroma) < 40, "a plain ground"


def check_noise(path, fact):
    """What a random generator draws."""
    with Image.open(path) as picture:
        assert picture.size == (fact["width"], fact["height"])
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    assert pixels.shape[0] == 64
    assert pixels.shape[1] in (64, 128)
    assert pixels.std() > 8, "a picture with nothing on it"
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500


def check_sound(path, fact):
    samples, rate = soundfile.read(path)
    assert rate == fact["sample_rate"] == 16_000
    assert len(samples) / rate == pytest.approx(fact["seconds"]) == 2.0
    assert np.abs(samples).max() > 0.05, "silence"
    assert samples.std() > 0.01


def check_video(path, fact, fps=4.0):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate)
    assert len(frames) == fact["frames"] == 8
    assert rate == fact["fps"] == fps
    assert frames[0].shape in ((64, 64, 3), (96, 96, 3))
    assert frames[0].std() > 5
    assert np.abs(frames[0].astype(float) - frames[-1]).mean() > 0.5, "nothing moves"


def check_text(path, fact):
    text = path.read_text(encoding="utf-8")
    assert len(text) == fact["characters"] > 20


def check_conversation(path, fact):
    turns = outline(path)["turns"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert (fact["turns"], fact["media"]) == (2, 1)
    (medium,) = (part for part in turns[1]["parts"] if part["type"] == "image")
    check_picture(path.parent / medium["file"], {"width": 64, "height": 64})


def check_shown(path, fact):
    """The conversation about a picture that the user showed, and that was answered with a sound."""
    user, assistant = outline(path)["turns"]
    (medium,) = (part for part in user["parts"] if part["type"] == "image")
    with Image.open(path.parent / medium["file"]) as kept, Image.open(FOLDER / "media" / "heart.png") as shown:
        assert np.array_equal(np.asarray(kept), np.asarray(shown))
    assert [part["type"] for part in assistant["parts"]] == ["text", "signal", "audio"]


def check_chart(path, fact):
    with Image.open(path) as picture:
        assert picture.size == (fact["width"], fact["height"])
        pixels = np.asarray(picture.convert("RGB"))
    assert picture.width == 720
    assert (pixels == 255).all(-1).mean() > 0.4, "most of a chart is paper"
    blue = np.abs(pixels.astype(int) - (0x3B, 0x7D, 0xD8)).max(-1) < 12
    assert blue.mean() > 0.02, "bars in the first colour of the palette"


def check_scored(path, fact):
    """The clip with the sound that came with it, as long as the longer of both."""
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1
        assert sum(1 for _ in container.decode(video=0)) == fact["frames"] == 8
    assert fact["seconds"] == pytest.approx(2.0)


def check_narration(path, fact):
    samples, rate = soundfile.read(path)
    assert rate == fact["sample_rate"] == 22_050
    assert fact["seconds"] > 2, "a sentence takes longer"
    assert np.abs(samples).max() > 0.1


def check_narrated(path, fact):
    """As long as what is said about it; the last frame stays."""
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 1
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    assert len(frames) == fact["frames"] > 8
    assert np.abs(frames[0] - frames[7]).mean() > 1, "the star rises"
    assert np.abs(frames[8] - frames[-1]).mean() < 2


def check_findings(path, fact):
    header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert header == ["source", "says", "tokens", "certainty"]
    assert [row[0] for row in rows] == ["note", "picture", "clip", "sound", "all together"]
    assert len({row[1] for row in rows}) == 5, "each says something else"
    assert all(0 < float(row[3]) < 100 for row in rows)


def check_set(path, fact):
    """Everything in it is read back: talks by template, and one that was written elsewhere with media from generators."""
    found = read_set(path)
    assert not found.problems
    assert len(found.talks) == fact["dialogues"]
    assert fact["dialogues"] + fact["left_out"] == 13
    assert max(found.kinds.values()) <= fact["dialogues"] * 0.5
    sources = [
        entry["data_source"]
        for record in json.loads(path.read_text(encoding="utf-8"))
        for modality in ("image", "video", "audio")
        for entry in record[f"{modality}_list"]
    ]
    assert sources.count("generated") == 2
    assert set(sources) == {"generated", "small world"}


def check_left_out(path, fact):
    header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert header == ["dialogue", "code", "why", "text"]
    assert {row[1] for row in rows if len(row) == 4} <= {"unbalanced", "duplicate"}


def check_problems(path, fact):
    """The tiny model is no author; that is said, and the rest is not lost."""
    _, row = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert row[0] == "text 1"
    assert "no line that begins with 'Human:'" in row[1]


def check_preview(path, fact):
    page = path.read_text(encoding="utf-8")
    assert "a large blue star in the centre" in page
    assert all(f"<{tag} " in page for tag in ("img", "video", "audio"))
    assert "<table>" in page


PARTS = {"answer": (1, 0, 1), "create": (1, 1, 1), "explain": (2, 1, 0), "report": (2, 1, 1)}
"""Pictures, clips and sounds on a page."""


def check_page(path, fact):
    page = path.read_text(encoding="utf-8")
    assert tuple(page.count(f"<{tag} ") for tag in ("img", "video", "audio")) == PARTS[path.parent.name]
    assert ("<table>" in page) == (path.parent.name in ("explain", "report"))
    assert "http://" not in page
    assert "https://" not in page


CARRIERS = {"image/png": check_picture, "audio/wav": check_sound, "video/mp4": check_video}
"""Files that hold the workflow which made them."""
CHECK = {
    **CARRIERS,
    "text/plain": check_text,
    "text/html": check_page,
    "application/json": check_conversation,
    ("answer", "save_chat"): check_shown,
    ("create", "save_film"): check_scored,
    ("draw_describe_sound", "save_draw"): check_noise,
    ("explain", "save_chart"): check_chart,
    ("make_mosit", "save_chart"): check_chart,
    ("make_mosit", "save_left_out"): check_left_out,
    ("make_mosit", "save_preview"): check_preview,
    ("make_mosit", "save_problems"): check_problems,
    ("make_mosit", "save_set"): check_set,
    ("narrate", "save_speech"): check_narration,
    ("narrate", "save_film"): check_narrated,
    ("report", "save_chart"): check_chart,
    ("report", "save_table"): check_findings,
    ("speak_draw_caption", "save_both"): check_noise,
    ("upscale_video", "save_film"): partial(check_video, fps=8.0),
    ("upscale_video", "save_large"): partial(check_video, fps=8.0),
}
"""By what a file is, or by what it is in one workflow."""


async def test_the_folder_is_what_is_tested():
    assert set(NAMES) == set(EXPECTED)


@pytest.mark.parametrize("name", NAMES)
async def test_a_workflow_says_what_it_is_and_what_it_asks(name):
    raw = load(name)
    document = parse(raw)
    assert document.title
    assert len(document.description) > 20
    assert document.asks
    for ask in document.asks:
        assert ask.label
        node = document.nodes[ask.node]
        assert ask.input in node.values, "what is asked for has a value that works"
    places = [(node["ui"]["x"], node["ui"]["y"]) for node in raw["nodes"].values()]
    assert len(set(places)) == len(places), "no node lies on another"


@pytest.mark.parametrize("name", NAMES)
async def test_a_workflow_runs(tmp_path, models_dir, name):
    if name == "narrate" and shutil.which("espeak-ng") is None:
        pytest.skip("eSpeak NG is not installed: apt-get install espeak-ng")
    document = load(name)
    async with await open_engine(tmp_path, models_dir) as engine:
        record = await run(engine, document)
        assert set(record.result) == EXPECTED[name]
        files = files_of(record)
        unasked = UNASKED.get(name, set())
        assert set(files) == {target for target in EXPECTED[name] if target.startswith("save")} - unasked
        assert all("did not ask" in record.result[target]["file"]["skipped"] for target in unasked)
        for target, file in files.items():
            path = tmp_path / "output" / file["name"]
            assert path.stat().st_size == file["bytes"] > 0
            CHECK.get((name, target), CHECK.get(file["media_type"]))(path, file)
            if file["media_type"] in CARRIERS:
                embedded = read_workflow(path)
                assert embedded["nodes"].keys() == document["nodes"].keys()
                assert (await engine.validate(embedded))["nodes"] == len(document["nodes"])
        for target in EXPECTED[name] - set(files) - unasked:
            assert len(record.result[target]["text"].strip()) > 15
        again = await run(engine, document)
        assert files_of(again).keys() == files.keys()
        texts = {target: record.result[target]["text"] for target in EXPECTED[name] - set(files) - unasked}
        assert texts == {target: again.result[target]["text"] for target in texts}


async def test_the_message_changes_what_comes_out(tmp_path, models_dir):
    document = load("text_to_image")
    async with await open_engine(tmp_path, models_dir) as engine:
        pictures = []
        for text in ("Draw a red star.", "Draw a green ring."):
            record = await engine.submit(document, values={"prompt.text": text})
            record = await engine.wait(record.id)
            assert record.status == "succeeded", record.errors
            path = tmp_path / "output" / files_of(record)["save_draw"]["name"]
            pictures.append(np.asarray(Image.open(path).convert("RGB"), dtype=np.float32))
            assert read_workflow(path)["nodes"]["prompt"]["values"]["text"] == text
    assert np.abs(pictures[0] - pictures[1]).mean() > 1


async def test_any_to_any_speaks_all_four(tmp_path, models_dir):
    async with await open_engine(tmp_path, models_dir) as engine:
        record = await run(engine, load("any_to_any"))
    reply = record.result["reply"]["text"]
    assert reply.index("[picture 1]") < reply.index("[video 1]") < reply.index("[sound 1]")
    assert len(reply) > 60
    trace = record.result["trace"]["text"]
    assert all(f"{noun} 1 at token" in trace for noun in ("picture", "video", "sound"))
