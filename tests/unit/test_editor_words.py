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


NAMES = """
16 24 adamw beta bfloat16 coolwarm csv ddim ddpm dpmpp_2m dpmpp_2m_karras dpmpp_2m_sde epsilon euler euler_ancestral flac
float16 float32 gb18030 gif heun inferno int4 int8 jpeg json karras lanczos latin-1 lcm lms markdown md mini mp3 mp4 muon
nextgpt-7b-tiva-v0 nextgpt-v1.5-7b pndm png sd1 sd2 sdpa sdxl tiny tiny-v1.5 triton txt unipc utf-16 utf-8 v_prediction viridis
wav webm webp xformers
"""
"""Options that are called so everywhere: formats, methods, models."""


def test_every_option_of_a_list_has_a_chinese_name():
    inputs = [port for type in OWN for port in (*type.inputs, *filter(None, [type.more]))]
    options = {(p.name, str(option)) for p in inputs if p.widget is not None for option in p.widget.options or ()}
    told = {word for word in WORDS["options"] if word in {option for _, option in options}}
    special = {tuple(word.split(".", 1)) for word in set(WORDS["options"]) - told}
    assert special <= options
    assert {option for port, option in options if (port, option) not in special} == told | set(NAMES.split())
