"""The caption route in the real engine: chosen per decoder by a switch, over lists, without computing what is not chosen."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graph_engine import Engine, Settings, Signals, node
from graph_engine.graph.registry import Registry

pytestmark = [
    pytest.mark.asyncio,
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
CAPTIONS = ("a red boat", "the sea at night")


@node(id="said.pictures")
def pictures() -> list[Signals]:
    """What nextgpt.route gives for two pictures with a sound between them."""
    rows = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0))
    return [
        {"modality": "image", "hidden": rows[i], "embeds": rows[i] / 2, "order": 2 * i, "caption": CAPTIONS[i]}
        for i in range(2)
    ]


def registry() -> Registry:
    found = Registry.discover()
    found.add(pictures.node_type)
    return found


def step(type: str, values: dict[str, Any] | None = None, **links: str) -> dict[str, Any]:
    return {"type": type, "values": values or {}, "links": links}


def workflow(captions: bool) -> dict[str, Any]:
    nodes = {
        "said": step("said.pictures"),
        "decoder": step("nextgpt.load_decoder", {"preset": "tiny", "modality": "image"}),
        "projector": step("nextgpt.load_output_projector", {"preset": "tiny", "modality": "image"}),
        "words": step("nextgpt.load_text_encoder", {"preset": "tiny", "modality": "image"}),
        "projected": step("nextgpt.project_out", signals="said.signals", projector="projector.output_projector"),
        "captions": step("nextgpt.caption_route", signals="said.signals", text_encoder="words.text_encoder"),
        "route": step(
            "control.switch",
            {"condition": captions},
            on_true="captions.conditioning",
            on_false="projected.conditioning",
        ),
        "draw": step(
            "nextgpt.sample_image",
            {"steps": 2, "scheduler": "dpmpp_2m", "spacing": "karras"},
            condition="route.value",
            decoder="decoder.decoder",
            text_encoder="words.text_encoder",
        ),
    }
    return {"format": "anyloom", "version": 1, "nodes": nodes, "targets": ["route", "draw"]}


async def value(engine: Engine, record: Any, name: str, port: str) -> Any:
    entry = record.result[name][port]
    if isinstance(entry, dict) and "artifact" in entry:
        return await engine.artifact(entry["artifact"], entry["port"])
    return entry


@pytest.mark.parametrize("captions", [True, False])
async def test_a_switch_chooses_the_route_and_keeps_the_order(tmp_path, captions):
    async with await Engine.open(Settings(data_dir=tmp_path), registry=registry()) as engine:
        record = await engine.submit(workflow(captions))
        events = [event async for batch in engine.watch(record.id) for event in batch]
        record = await engine.wait(record.id)
        assert record.status == "succeeded", record.errors
        chosen = await value(engine, record, "route", "value")
        drawn = await value(engine, record, "draw", "latent")
    facts = [entry[0][1] for entry in chosen]
    assert [fact["order"] for fact in facts] == [0, 2]
    assert [fact.get("caption") for fact in facts] == (list(CAPTIONS) if captions else [None, None])
    assert len(drawn) == 2
    assert not torch.equal(drawn[0]["samples"], drawn[1]["samples"])
    ran = {event.node.partition("#")[0] for event in events if event.type == "running"}
    assert ("projected" in ran, "captions" in ran) == (not captions, captions), "the other route is not computed"
