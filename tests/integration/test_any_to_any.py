"""The any-to-any matrix: every non-empty set of modalities in, every non-empty set out, as a graph and as a run."""

import shutil
import time
from itertools import chain, combinations
from pathlib import Path

import av
import numpy as np
import pytest
import pytest_asyncio
import soundfile
from PIL import Image

from graph_engine import Engine, Settings, Skip
from graph_engine.errors import RequestError
from nodes.nextgpt.any_to_any import any_to_any, inputs, outputs
from nodes.nextgpt.assemble import assemble
from nodes.nextgpt.heat_strip import HUES
from nodes.nextgpt.modality import SPOKEN

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

MEDIA = Path(__file__).resolve().parents[2] / "workflows" / "media"
FOUR = ("text", "image", "video", "audio")
SETS = tuple(chain.from_iterable(combinations(FOUR, size) for size in range(1, 5)))
QUICK = {
    "image": {"steps": 1, "guidance": 1.0, "width": 16, "height": 24},
    "video": {"steps": 1, "guidance": 1.0, "width": 16, "height": 24, "frames": 2},
    "audio": {"steps": 1, "guidance": 1.0, "seconds": 0.1},
}
LIMIT_S = 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "input").mkdir()
    for name in ("lighthouse.png", "bell.wav", "waves.mp4"):
        shutil.copy(MEDIA / name, folder / "input" / name)
    async with await Engine.open(Settings(data_dir=folder)) as engine:
        yield engine


def quick(wanted):
    """Literals for a run of the smallest size: the signal tokens that were asked for and a few words."""
    small = {f"decode_{name}.{port}": value for name in wanted if name in QUICK for port, value in QUICK[name].items()}
    return {"think.max_new_tokens": 3 + sum(SPOKEN[name].signals for name in wanted if name in SPOKEN), **small}


def media_of(engine, result):
    """{save node: what its only file holds}, read by other libraries."""
    found = {}
    for name, ports in result.items():
        if "file" not in ports:
            continue
        entry = ports["file"]
        while isinstance(entry, list):
            (entry,) = entry
        path = engine.folders.resolve(entry["file"]["folder"], entry["file"]["name"])
        if path.suffix == ".png":
            with Image.open(path) as picture:
                found[name] = picture.size
        elif path.suffix == ".wav":
            samples, rate = soundfile.read(path)
            found[name] = (len(samples), rate)
        else:
            with av.open(str(path)) as container:
                frames = list(container.decode(video=0))
            found[name] = (len(frames), frames[0].width, frames[0].height)
    return found


MADE = {"save_image": (16, 24), "save_video": (2, 16, 24), "save_audio": (1600, 16_000)}


async def test_there_are_225_combinations_and_all_are_valid_graphs(engine):
    assert len(SETS) == 15
    plans = [(given, wanted, await engine.validate(any_to_any(given, wanted))) for given in SETS for wanted in SETS]
    assert len(plans) == 225
    for given, wanted, plan in plans:
        targets = {f"save_{name}" for name in wanted if name != "text"} | ({"reply"} if "text" in wanted else set())
        assert set(plan["targets"]) == targets, (given, wanted)
        media_in, media_out = len(set(given) - {"text"}), len(set(wanted) - {"text"})
        assert plan["nodes"] == 4 + 3 * media_in + 3 * media_out + 2 * ("text" in wanted), (given, wanted)


async def test_every_combination_gives_exactly_what_was_asked_for(engine):
    began = time.process_time()
    for given in SETS:
        for wanted in SETS:
            record = await engine.submit(any_to_any(given, wanted), values=quick(wanted))
            record = await engine.wait(record.id, 60)
            assert record.status == "succeeded", (given, wanted, record.errors)
            expected = {f"save_{name}": MADE[f"save_{name}"] for name in wanted if name != "text"}
            assert media_of(engine, record.result) == expected, (given, wanted)
            assert ("reply" in record.result) == ("text" in wanted)
            if "text" in wanted:
                text = record.result["reply"]["text"]
                labels = {"image": "[picture 1]", "video": "[video 1]", "audio": "[sound 1]"}
                assert {name for name, label in labels.items() if label in text} == set(wanted) - {"text"}
                assert "not made" not in text
    spent = time.process_time() - began
    print(f"225 runs in {spent:.1f} s of CPU time")
    assert spent < LIMIT_S


async def test_what_goes_in_changes_what_comes_out(engine):
    """The same wish over other inputs is another condition: no input is dropped on the way."""
    seen = {}
    for given in SETS:
        document = {**any_to_any(given, ["image"]), "targets": ["condition_image", "prompt"]}
        record = await engine.submit(document, values={"think.max_new_tokens": 8})
        record = await engine.wait(record.id, 60)
        entry = record.result["condition_image"]["conditioning"]
        ((((condition, _),),)) = await engine.artifact(entry["artifact"], entry["port"])
        seen[given] = round(float(condition.double().pow(2).sum()), 6)
    assert len(set(seen.values())) == 15


def _tallest(pixels, colour):
    """The longest vertical line of a colour, in pixels."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    longest, line = 0, np.zeros(pixels.shape[1], dtype=int)
    for row in (pixels == wanted).all(axis=-1):
        line = np.where(row, line + 1, 0)
        longest = max(longest, int(line.max()))
    return longest


async def test_the_trace_of_a_real_answer_is_a_picture(engine):
    document = any_to_any(["text"], ["image", "audio"])
    document["nodes"] |= {
        "why": {"type": "nextgpt.trace_picture", "links": {"generation": "think.generation"}},
        "save_why": {"type": "media.save_image", "values": {"name": "why"}, "links": {"image": "why.image"}},
    }
    values = {"think.max_new_tokens": 40, "think.seed": 4}
    record = await engine.submit({**document, "targets": ["save_why", "route"]}, values=values)
    record = await engine.wait(record.id, 60)
    assert record.status == "succeeded", record.errors
    (entry,) = record.result["save_why"]["file"]
    with Image.open(engine.folders.resolve("output", entry["file"]["name"])) as picture:
        assert picture.width == 1600
        pixels = np.asarray(picture.convert("RGB"))
    heights = [_tallest(pixels, hue) for hue in HUES[:3]]
    assert min(heights[0], heights[2]) > 2 * heights[1] > 0, (
        "a picture and a sound are cells, of video there are bars only"
    )
    events = record.result["route"]["events"]
    assert [event["modality"] for event in events["events"] if event["type"] == "signal"] == ["image", "audio"]
    assert events["modalities"]["video"]["outcome"] == "forbidden"
    assert all(0 < event["probability"] < 1 for event in events["events"] if event["type"] == "signal")


async def test_a_decoder_that_fails_leaves_the_rest_and_a_partial_reply(engine):
    """The other modalities come out, the error names the decoder, and the turn can be put together without it."""
    document = any_to_any(["text"], ["text", "image", "audio"])
    document["nodes"]["newer"] = {"type": "nextgpt.load", "values": {"preset": "tiny-v1.5"}}
    document["nodes"]["decode_image"]["links"]["decoder"] = "newer.image_decoder"
    document["targets"] = ["reply", "save_image", "save_audio", "route"]
    record = await engine.submit(document, values=quick(["image", "audio"]))
    record = await engine.wait(record.id, 60)
    assert record.status == "partial"
    (error,) = record.errors
    assert error["node"].partition("#")[0] == "decode_image"
    assert error["code"] == "bad_condition"
    assert media_of(engine, record.result) == {"save_audio": MADE["save_audio"]}
    routed = record.result["route"]
    done = assemble(routed["reply"], images=[Skip(error["message"])], audios=[{"waveform": None}])
    assert done.reply_text.startswith(routed["text"].strip()[:10])
    assert done.reply_text.endswith("[picture 1: not made] [sound 1]")
    (lost,) = [part for part in done.conversation[0]["parts"] if "missing" in part]
    assert (lost["modality"], lost["missing"]) == ("image", error["message"])


async def test_runs_are_completed_unless_that_is_switched_off(engine):
    """A hot model breaks runs off when it is left alone; the router tells them and goes on."""
    document = {**any_to_any(["text"], ["text"]), "targets": ["route"]}
    free = dict.fromkeys(("think.image", "think.video", "think.audio"), "auto")
    values = {"think.max_new_tokens": 250, "think.temperature": 5.0, "think.max_images": 9, "think.seed": 3, **free}
    broken = {}
    for complete in (True, False):
        record = await engine.submit(document, values={**values, "think.complete_runs": complete})
        logged = [event async for batch in engine.watch(record.id) for event in batch if event.type == "log"]
        record = await engine.wait(record.id, 60)
        assert record.status == "succeeded", record.errors
        found = [event["type"] for event in record.result["route"]["events"]["events"]]
        broken[complete] = found.count("broken")
        warnings = record.result["route"]["events"]["warnings"]
        assert len(warnings) == broken[complete]
        assert [event.data["message"] for event in logged if event.node == "route"] == warnings
    assert broken[True] == 0 < broken[False]


@pytest.mark.parametrize("name", sorted(set(inputs()) - set(FOUR)))
async def test_further_inputs_of_imagebind_go_in_too(engine, name):
    record = await engine.submit(any_to_any(["text", name], ["text"]), values={"think.max_new_tokens": 6})
    record = await engine.wait(record.id, 60)
    assert record.status == "succeeded", record.errors
    assert record.result["reply"]["text"]


async def test_the_table_says_what_there_is():
    assert inputs()[:4] == outputs() == FOUR
    with pytest.raises(RequestError, match="'smell', 'touch' cannot go in") as caught:
        any_to_any(["text", "touch", "smell"], ["text"])
    assert "image" in caught.value.problem.remedy
    with pytest.raises(RequestError, match="'depth' cannot come out"):
        any_to_any(["text"], ["depth"])
    with pytest.raises(RequestError, match="no modality is to come out"):
        any_to_any(["text"], [])
