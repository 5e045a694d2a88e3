"""What the language model says of media when it is asked: its understanding, as words, without any caption.

For RecA on a model that names what it draws before it draws it (as NExT-GPT's answers do): what it sees goes through its
own words into the signals, as it will when somebody asks for the thing. A description tells everything, and a request
leaves out sizes, places and backgrounds, or says how two things stand to each other: so must some of the words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from nodes.nextgpt.model.prompts import FeaturePart, TextPart, Turn, build_inputs
from nodes.nextgpt.training.judges.words import read
from nodes.nextgpt.training.language import Speech
from nodes.nextgpt.training.world.caption import caption
from nodes.nextgpt.training.world.phrases import DESCRIBE
from nodes.nextgpt.training.world.scene import Scene, Thing
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.terms import Language

MOST = 48
"""Tokens; a caption of three things has 36."""
BRIEF = 0.7
"""Share of descriptions of pictures that are said again as a request says it."""
RELATED = 0.75
"""Share of those whose two things can be said to stand to each other in which that is said, and not where they are."""


@torch.no_grad()
def own_words(
    speech: Speech, modality: str, features: Sequence[Tensor], language: Language, draw: random.Random
) -> list[str]:
    """One description per medium, greedy. features: each medium's "M H", all of one length."""
    words, causal = speech.words, speech.model.causal
    question = draw.choice(DESCRIBE[modality][language])
    prompts = [
        build_inputs(
            speech.model,
            words.tokenizer,
            [Turn("user", (FeaturePart(block), TextPart(question)))],
            words.layout,
            words.vocabulary,
            MOST,
        )
        for block in features
    ]
    read = causal(inputs_embeds=torch.cat(prompts), use_cache=True)
    said: list[Tensor] = []
    for count in range(1, MOST + 1):
        said.append(read.logits[:, -1].argmax(-1))
        if count % 8 == 0 and all(len(until(row, speech)) < count for row in torch.stack(said, 1).tolist()):
            break
        embeds = causal.get_input_embeddings()(said[-1])[:, None]
        read = causal(inputs_embeds=embeds, past_key_values=read.past_key_values, use_cache=True)
    return [words.tokenizer.decode(until(row, speech)).strip() for row in torch.stack(said, 1).tolist()]


def until(ids: list[int], speech: Speech) -> list[int]:
    """The ids before the first that ends an answer or belongs to a signal."""
    ends = [(end,) if isinstance(end, int) else end for end in speech.words.stop]
    signals = set(speech.words.vocabulary.ids())
    for place, token in enumerate(ids):
        if token in signals or any(tuple(ids[place : place + len(end)]) == end for end in ends):
            return ids[:place]
    return ids


def briefly(said: str, language: Language, draw: random.Random) -> str:
    """A description of a picture with as much of it as a request would say; one that is not of the world stays as it is."""
    told = read(said)
    try:
        things = [Thing(thing["shape"], thing["colour"], thing["size"], thing["place"]) for thing in told.things]
        scene = Scene(tuple(things), told.background or "")
    except (KeyError, ValueError):
        return said
    if not scene.background:
        return said
    talker = Talker(draw)
    related = scene.relation is not None and draw.random() < RELATED
    return caption(scene, language, talker.mentions_related() if related else talker.mentions(scene))
