"""Every node that comes with Anyloom, its ports and its category have a Chinese name in the editor; no name is left over."""

import json
from pathlib import Path

from graph_engine.graph.registry import Registry

WORDS = json.loads((Path(__file__).resolve().parents[2] / "web/editor/src/i18n/nodes.zh.json").read_text("utf-8"))
OWN = [type for type in Registry.discover() if type.function.__module__.startswith("nodes.")]


def test_every_node_and_category_has_a_chinese_name():
    assert set(WORDS["titles"]) == {type.id for type in OWN}
    assert set(WORDS["categories"]) == {type.category for type in OWN}


def test_every_port_has_a_chinese_name():
    ports = {(type.id, port.name) for type in OWN for port in (*type.inputs, *type.outputs, *filter(None, [type.more]))}
    names = {name for _, name in ports}
    told = {word for word in WORDS["ports"] if "." not in word}
    assert told == names
    special = {tuple(word.rsplit(".", 1)) for word in WORDS["ports"] if "." in word}
    assert special <= ports


def test_a_port_whose_label_is_another_word_has_a_name_of_its_own():
    labelled = {f"{t.id}.{p.name}" for t in OWN for p in t.inputs if p.widget is not None and p.widget.label}
    assert labelled == {word for word in WORDS["ports"] if "." in word}
