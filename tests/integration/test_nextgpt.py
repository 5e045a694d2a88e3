"""NExT-GPT's stages in the real engine: lists, skips, streams, caching, cancelling, two turns."""

import asyncio
import copy
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from graph_engine import Engine, Settings
from graph_engine.errors import GraphError

pytestmark = [
    pytest.mark.asyncio,
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

MEDIA = Path(__file__).resolve().parents[2] / "workflows" / "media"


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def settings(tmp_path, models_dir):
    (tmp_path / "input").mkdir(parents=True, exist_ok=True)
    for name in ("lighthouse.png", "bell.wav", "waves.mp4"):
        shutil.copy(MEDIA / name, tmp_path / "input" / name)
    return Settings(data_dir=tmp_path, models_dir=models_dir)


def node(type, values=None, **links):
    """Models are those of `tiny`, if nothing else is said: these tests are about the stages, not about what is answered."""
    given = {**({"preset": "tiny"} if type.startswith("load") else {}), **(values or {})}
    return {"type": f"nextgpt.{type}" if "." not in type else type, "values": given, "links": links}


def document(nodes, targets=None):
    return {"format": "anyloom", "version": 1, "nodes": nodes, **({"targets": targets} if targets else {})}


def talk(**wishes):
    """A sentence, answered; decoders of all modalities are connected."""
    options = {"image": "never", "video": "never", "audio": "never", "max_new_tokens": 64, "seed": 5, **wishes}
    nodes = {
        "models": node("load"),
        "prompt": node("conversation", {"text": "a boat on the sea"}),
        "think": node("reason", options, conversation="prompt.conversation", model="models.language_model"),
        "route": node("route", generation="think.generation"),
    }
    for name, media, quick in (
        ("image", "images", {"steps": 2}),
        ("video", "videos", {"steps": 2, "frames": 3}),
        ("audio", "audios", {"steps": 2, "seconds": 0.5}),
    ):
        nodes[f"{name}_condition"] = node("project_out", signals=f"route.{name}", projector=f"models.{name}_projector")
        nodes[name] = node(
            f"decode_{name}",
            {"seed": 1, **quick},
            condition=f"{name}_condition.conditioning",
            decoder=f"models.{name}_decoder",
        )
        nodes.setdefault("turn", node("assemble", reply="route.reply", previous="prompt.conversation"))
        nodes["turn"]["links"][media] = f"{name}.{name}"
    nodes["shown"] = node("media.show_text", text="turn.reply_text")
    return nodes


async def run(engine, nodes, targets=None, **values):
    """(record, events) of a run that must succeed."""
    record = await engine.submit(document(nodes, targets), values=values)
    events = [event async for batch in engine.watch(record.id) for event in batch]
    record = await engine.wait(record.id)
    assert record.status == "succeeded", record.errors
    return record, events


def nodes_of(events, type):
    return [event.node for event in events if event.type == type]


def loaded(engine):
    return {entry["key"] for device in engine.models.stats() for entry in device["models"]}


async def value(engine, record, name, port):
    """The value of a target's port, also where the record only refers to it."""
    entry = record.result[name][port]
    if isinstance(entry, dict) and "artifact" in entry:
        return await engine.artifact(entry["artifact"], entry["port"])
    return entry


async def test_every_stage_has_its_shape(tmp_path, models_dir):
    nodes = talk(image="always", video="always", audio="always")
    nodes |= {
        "picture": node("media.load_image", {"file": "lighthouse.png"}),
        "seen": node("encode_image", image="picture.image", encoder="models.encoder"),
        "picture_tokens": node("project_in", embedding="seen.embedding", projector="models.input_projector"),
        "sound": node("media.load_audio", {"file": "bell.wav"}),
        "heard": node("encode_audio", {"form": "patch"}, audio="sound.audio", encoder="models.encoder"),
        "sound_tokens": node("project_in", embedding="heard.embedding", projector="models.input_projector"),
        "film": node("media.load_video", {"file": "waves.mp4"}),
        "watched": node("encode_video", video="film.video", encoder="models.encoder"),
        "video_tokens": node("project_in", embedding="watched.embedding", projector="models.input_projector"),
    }
    nodes["prompt"]["links"] = {
        "image": "picture_tokens.tokens",
        "sound": "sound_tokens.tokens",
        "video": "video_tokens.tokens",
    }
    targets = ["seen", "heard", "watched", "sound_tokens", "prompt", "think", "route", "image_condition"]
    targets += ["audio_condition", "image", "video", "audio", "turn"]
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        record, _ = await run(engine, nodes, targets)
        found = {
            name: await value(engine, record, name, port)
            for name, port in [
                ("seen", "embedding"),
                ("heard", "embedding"),
                ("watched", "embedding"),
                ("sound_tokens", "tokens"),
                ("prompt", "conversation"),
                ("think", "generation"),
                ("image_condition", "conditioning"),
                ("audio_condition", "conditioning"),
                ("image", "image"),
                ("video", "video"),
                ("audio", "audio"),
                ("turn", "conversation"),
            ]
        }
    assert found["seen"]["tensor"].shape == found["watched"]["tensor"].shape == (1, 1, 32)
    assert found["heard"]["tensor"].shape == (1, 228, 32)
    assert found["sound_tokens"]["tensor"].shape == (1, 228, 64)
    assert [part["type"] for part in found["prompt"][0]["parts"]] == ["features"] * 3 + ["text"]
    assert found["think"]["hidden"].shape == (len(found["think"]["ids"]), 64)
    assert found["think"]["prompt_length"] > 228
    assert found["image_condition"][0][0][0].shape == (1, 77, 768)
    assert found["audio_condition"][0][0][0].shape == (1, 1, 512)
    assert found["image"][0].shape == (1, 64, 64, 3)
    assert found["video"][0]["frames"].shape == (3, 64, 64, 3)
    assert found["audio"][0]["waveform"].shape == (1, 1, 8000)
    kinds = [part["type"] for part in found["turn"][1]["parts"] if part["type"] != "text"]
    assert kinds == ["signal", "image", "signal", "video", "signal", "audio"]


async def test_what_was_not_asked_for_is_neither_run_nor_loaded(tmp_path, models_dir):
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        record, events = await run(engine, talk(image="always"))
        assert "[picture 1]" in record.result["shown"]["text"]
        assert "[sound 1]" not in record.result["shown"]["text"]
        skipped = set(nodes_of(events, "skipped"))
        assert {"video_condition", "video", "audio_condition", "audio"} <= skipped
        said = next(event.data["message"] for event in events if event.type == "skipped" and event.node == "audio")
        assert "did not ask for a sound" in said
        assert not {"video", "audio"} & {name.partition("#")[0] for name in nodes_of(events, "running")}
        assert len(loaded(engine)) == 3, "the language model, the picture's projector and decoder"
        await run(engine, talk())
        assert len(loaded(engine)) == 3


async def test_the_stream_is_the_text(tmp_path, models_dir):
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        record, events = await run(engine, talk(image="always"), ["route"])
        chunks = [event.data["text"] for event in events if event.type == "chunk" and event.node == "think"]
        assert len(chunks) > 5
        assert "".join(chunks) == record.result["route"]["text"]
        assert "picture 1 at token" in record.result["route"]["trace"]


async def test_several_items_of_one_modality_keep_their_order(tmp_path, models_dir, monkeypatch):
    """Random weights never ask twice, so the answer is put together here; everything after it is real."""
    from nodes.nextgpt.model import generation

    real = generation.generate

    def twice(model, prompt, options, vocabulary, policy, stop, *, on_token, **more):
        import torch

        said = real(model, prompt, options, vocabulary, policy, stop, on_token=on_token, **more)
        words, run = said.ids[:3], vocabulary.run("image")
        ids = (*words, *run, *vocabulary.run("audio"), *words, *run)
        for position, token in enumerate(ids):
            on_token(token, len(said.ids) + position)
        every = (*said.ids, *ids)
        hidden = torch.randn(len(every), model.hidden_size, generator=torch.Generator().manual_seed(1))
        return replace(
            said,
            ids=every,
            hidden=hidden,
            embeds=model.embed(every),
            finished="stop",
            stop_length=0,
            confidence=torch.cat([said.confidence, torch.ones(len(ids))]),
            signal_mass={name: torch.cat([mass, torch.zeros(len(ids))]) for name, mass in said.signal_mass.items()},
        )

    monkeypatch.setattr(generation, "generate", twice)
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        nodes = talk(max_new_tokens=4)
        nodes["saved"] = node("media.save_image", {"name": "each"}, image="image.image")
        record, events = await run(engine, nodes, ["turn", "shown", "saved", "image"])
        parts = (await value(engine, record, "turn", "conversation"))[1]["parts"]
        images = await value(engine, record, "image", "image")
    kinds = [part["type"] for part in parts if part["type"] != "text"]
    assert kinds == ["signal", "image", "signal", "audio", "signal", "image"]
    shown = [part["image"] for part in parts if part["type"] == "image"]
    assert (shown[0] == images[0]).all()
    assert (shown[1] == images[1]).all()
    assert not (images[0] == images[1]).all(), "each item has its own condition"
    assert len(record.result["saved"]["file"]) == 2
    assert sorted(name for name in nodes_of(events, "done") if name.startswith("image#")) == ["image#0", "image#1"]
    text = record.result["shown"]["text"]
    assert text.index("[picture 1]") < text.index("[sound 1]") < text.index("[picture 2]")


async def test_a_second_run_computes_nothing(tmp_path, models_dir):
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        nodes = talk(image="always", audio="always")
        first, events = await run(engine, nodes, ["turn"])
        assert nodes_of(events, "running")
        loads = engine.models.loads
        second, events = await run(engine, nodes, ["turn"])
        assert not nodes_of(events, "running")
        assert second.result == first.result
        renamed = {f"x_{name}": copy.deepcopy(entry) for name, entry in nodes.items()}
        for entry in renamed.values():
            entry["links"] = {port: f"x_{link}" for port, link in entry["links"].items()}
        _, events = await run(engine, renamed, ["x_turn"])
        assert not nodes_of(events, "running"), "equal work has equal keys, whatever the nodes are called"
        _, events = await run(engine, nodes, ["turn"], **{"image.seed": 2})
        again = {name.partition("#")[0] for name in nodes_of(events, "running")}
        assert again == {"image", "turn"}
        assert engine.models.loads == loads


async def test_the_same_seed_gives_the_same_pixels(tmp_path, models_dir):
    pictures = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        async with await Engine.open(settings(tmp_path / name, models_dir)) as engine:
            record, _ = await run(engine, talk(image="always"), ["image"], **{"image.seed": seed})
            pictures.append((await value(engine, record, "image", "image"))[0])
    assert (pictures[0] == pictures[1]).all()
    assert not (pictures[0] == pictures[2]).all()


async def test_cancel_ends_a_decoder_between_steps(tmp_path, models_dir):
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        await run(engine, talk(video="always"), ["video"])  # everything is loaded
        record = await engine.submit(
            document(talk(video="always"), ["video"]), values={"video.steps": 500, "video.frames": 8}
        )
        done = 0
        async for batch in engine.watch(record.id):
            done = max([done, *(event.data["done"] for event in batch if event.type == "progress")])
            if done >= 2:
                break
        began = time.monotonic()
        assert await engine.cancel(record.id)
        record = await engine.wait(record.id, 10)
        assert record.status == "cancelled"
        assert time.monotonic() - began < 2.0
        await run(engine, talk(image="always"))


async def test_cancel_ends_the_language_model(tmp_path, models_dir):
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        await run(engine, talk(), ["route"])
        record = await engine.submit(document(talk(max_new_tokens=1900, temperature=3.0, seed=9), ["route"]))
        async for batch in engine.watch(record.id):
            if any(event.type == "chunk" for event in batch):
                break
        began = time.monotonic()
        await engine.cancel(record.id)
        assert (await engine.wait(record.id, 10)).status == "cancelled"
        assert time.monotonic() - began < 2.0


async def test_a_second_turn_sees_what_the_first_one_drew(tmp_path, models_dir):
    nodes = talk(image="always")
    nodes |= {
        "seen": node("encode_image", image="image.image", encoder="models.encoder"),
        "seen_tokens": node("project_in", embedding="seen.embedding", projector="models.input_projector"),
        "next": node("conversation", {"text": "what is it?"}, previous="turn.conversation", drawn="seen_tokens.tokens"),
        "again": node(
            "reason",
            {"max_new_tokens": 24, "image": "never", "audio": "never", "video": "never"},
            conversation="next.conversation",
            model="models.language_model",
        ),
        "look": node(
            "encode_conversation",
            conversation="turn.conversation",
            encoder="models.encoder",
            projector="models.input_projector",
        ),
    }
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        record, _ = await run(engine, nodes, ["next", "again", "look"])
        turns = await value(engine, record, "next", "conversation")
        look = await value(engine, record, "look", "conversation")
        other, _ = await run(engine, nodes, ["again"], **{"image.seed": 77})
        said = [(await value(engine, each, "again", "generation"))["hidden"] for each in (record, other)]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert [part["type"] for part in turns[2]["parts"]] == ["features", "text"]
    assert [part["type"] for part in look[1]["parts"]] == ["text", "features"]
    assert (look[1]["parts"][1]["tensor"] == turns[2]["parts"][0]["tensor"]).all()
    assert said[0].shape != said[1].shape or not (said[0] == said[1]).all(), "another picture, another answer"


async def test_a_skipped_picture_leaves_its_place_empty(tmp_path, models_dir):
    nodes = talk()
    nodes |= {
        "seen": node("encode_image", image="image.image", encoder="models.encoder"),
        "seen_tokens": node("project_in", embedding="seen.embedding", projector="models.input_projector"),
        "next": node("conversation", {"text": "and?"}, previous="turn.conversation", drawn="seen_tokens.tokens"),
    }
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        record, _ = await run(engine, nodes, ["next"])
        turns = await value(engine, record, "next", "conversation")
    assert [part["type"] for part in turns[2]["parts"]] == ["text"]


async def test_a_preset_without_files_fails_by_name(tmp_path, models_dir):
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        record = await engine.submit(document(talk()), values={"models.preset": "nextgpt-7b-tiva-v0"})
        record = await engine.wait(record.id)
        assert record.status == "failed"
        (problem,) = record.errors
        assert problem["code"] == "model_missing"
        assert problem["node"] == "models"
        assert str(models_dir / "imagebind_huge" / "encoder.safetensors") in problem["message"]
        with pytest.raises(GraphError, match="not one of") as caught:
            await engine.submit(document(talk()), values={"models.preset": "gpt-9"})
        assert "tiny" in caught.value.message


async def test_weights_that_vanish_while_specs_are_cached_are_made_again(tmp_path, models_dir):
    own = tmp_path / "own_models"
    shutil.copytree(models_dir, own, dirs_exist_ok=True)
    async with await Engine.open(settings(tmp_path, own)) as engine:
        await run(engine, talk(), ["route"])
        shutil.rmtree(own / "tiny")
        engine.models.clear()
        record, _ = await run(engine, talk(image="always"), ["shown"])
        assert "[picture 1]" in record.result["shown"]["text"]


async def test_both_topologies_side_by_side_and_their_mix_up(tmp_path, models_dir):
    nodes = talk(image="always")
    nodes["newer"] = node("load", {"preset": "tiny-v1.5"})
    nodes["image"]["links"]["decoder"] = "newer.image_decoder"
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        record = await engine.submit(document(nodes, ["image"]))
        record = await engine.wait(record.id)
        assert record.status == "failed"
        assert record.errors[0]["code"] == "bad_condition"
        assert "1024" in record.errors[0]["message"]
        nodes["image_condition"]["links"]["projector"] = "newer.image_projector"
        record, _ = await run(engine, nodes, ["image"])
        assert (await value(engine, record, "image", "image"))[0].shape == (1, 64, 64, 3)


async def test_two_conversations_run_at_once(tmp_path, models_dir):
    async with await Engine.open(settings(tmp_path, models_dir)) as engine:
        runs = [run(engine, talk(image="always", seed=seed)) for seed in range(3)]
        texts = [record.result["shown"]["text"] for record, _ in await asyncio.gather(*runs)]
    assert len(set(texts)) == 3
    assert json.dumps(texts)


async def test_replaced_weights_are_other_work(tmp_path: Path) -> None:
    """A published preset's file changes: the load node's key changes with it, so nothing old is taken from the cache."""
    from graph_engine.graph.document import parse
    from graph_engine.graph.graph import resolve
    from graph_engine.graph.plan import make_plan
    from graph_engine.graph.registry import Registry
    from graph_engine.planner import Planner
    from nodes.nextgpt.load import load_encoder
    from nodes.nextgpt.preset import files_of

    preset = "nextgpt-7b-tiva-v0"
    registry = Registry([load_encoder.node_type])  # type: ignore[attr-defined]
    planner = Planner(Settings(data_dir=tmp_path), registry, lambda file: "")
    document = {
        "format": "anyloom",
        "version": 1,
        "nodes": {"e": {"type": "nextgpt.load_encoder", "values": {"preset": preset}}},
    }

    def key() -> str:
        return make_plan(resolve(parse(document), registry), planner.stamp).steps[0].key

    absent = key()
    path = tmp_path / "models" / files_of(preset)[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one")
    first = key()
    path.write_bytes(b"two files")
    assert len({absent, first, key()}) == 3
