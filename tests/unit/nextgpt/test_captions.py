"""Captions: the decoders' own text encoders, the caption route, and true negative conditions."""

import json
from dataclasses import replace

import pytest
import torch

from graph_engine.errors import ModelError, NodeError
from graph_engine.models.load import materialise
from nodes.nextgpt.caption_route import caption_route, encode_caption, load_text_encoder
from nodes.nextgpt.decode_audio import sample_audio
from nodes.nextgpt.decode_image import decode_image, sample_image
from nodes.nextgpt.decode_video import sample_video
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.load import load_decoder
from nodes.nextgpt.modality import SPOKEN
from nodes.nextgpt.model.caption_tokens import shipped_tokens
from nodes.nextgpt.model.text_encoder import TextEncoder, TextEncoderConfig, published_state
from nodes.nextgpt.model.tokenizer import Tokenizer
from tests.contexts import FolderContext

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FAMILY = {family.name: family for family in FAMILIES}
SHAPES = {"image": (77, 768), "video": (77, 1024), "audio": (1, 512)}


class SmallContext(FolderContext):
    """Loads what it is asked for, once, and remembers it."""

    def model(self, spec):
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, FAMILY[spec.family], "cpu")
        return self.models[spec.key]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return SmallContext(tmp_path_factory.mktemp("captions"))


@pytest.fixture(scope="module")
def encoders(context):
    return {name: load_text_encoder(context, "tiny", name) for name in SPOKEN}


def signals(modality, caption=None, order=0):
    rows = torch.zeros(SPOKEN[modality].signals, 64)
    said = {"modality": modality, "hidden": rows, "embeds": rows, "order": order}
    return said if caption is None else {**said, "caption": caption}


def condition(entry):
    ((tensor, _),) = entry
    return tensor


# --- the encoders ---------------------------------------------------------------------------------------------------


def test_published_sizes_on_meta():
    with torch.device("meta"):
        made = {name: TextEncoder(getattr(TextEncoderConfig, name)()) for name in ("clip_l", "open_clip_h", "clap")}
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in made.items()}
    assert counts == {"clip_l": 123_060_480, "open_clip_h": 340_387_840, "clap": 125_302_016}
    assert [made[name].config.condition for name in made] == [(77, 768), (77, 1024), (1, 512)]


@pytest.mark.parametrize("kind", ["clip", "clap"])
def test_meta_then_assign_equals_the_encoder_built_directly(kind):
    config = TextEncoderConfig.tiny(kind, 32, 40)
    assert TextEncoderConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    direct = TextEncoder.random(config, 0)
    with torch.device("meta"):
        empty = TextEncoder(config)
    empty.load_state_dict(direct.state_dict(), assign=True)
    empty.reset_buffers()
    assert not any(t.is_meta for t in (*empty.parameters(), *empty.buffers()))
    ids = [1, 5, 6, 7, 2]
    assert torch.equal(empty(ids), direct(ids))
    assert not torch.equal(direct(ids), direct([1, 6, 5, 7, 2])), "the order of words counts"
    with pytest.raises(ValueError, match="78 tokens, the encoder takes 77"):
        direct([1] * 78)


@pytest.mark.parametrize("kind", ["clip", "clap"])
def test_published_names_of_either_age_find_their_place(kind):
    encoder = TextEncoder.random(TextEncoderConfig.tiny(kind, 32, 40), 0)
    own = encoder.state_dict()
    bare = {key.removeprefix("model."): tensor for key, tensor in own.items()}
    # Before transformers 5, and with what else a file of the whole model holds.
    old = {f"text_model.{key}": tensor for key, tensor in bare.items()} if kind == "clip" else dict(bare)
    extra = (
        "text_model.embeddings.position_ids",
        "logit_scale",
        "vision_model.x",
        "audio_model.x",
        "visual_projection.weight",
    )
    old.update({key: torch.zeros(1) for key in extra})
    for state in (own, bare, old):
        found = published_state(state, kind)
        assert found.keys() == own.keys()
        assert all(torch.equal(found[key], own[key]) for key in own)


def test_there_is_no_third_kind():
    with pytest.raises(ValueError, match="only clip and clap"):
        TextEncoderConfig("bert", {})


# --- nodes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", SHAPES)
def test_a_caption_has_the_shape_of_the_decoders_condition(context, encoders, modality):
    first, same, other, empty = (
        condition(encode_caption(context, encoders[modality], text)) for text in ("a boat", "a boat", "the sea", "")
    )
    assert first.shape == (1, *SHAPES[modality])
    assert first.dtype == torch.float32
    assert torch.equal(first, same)
    assert (first - other).abs().max() > 1e-3
    assert (first - empty).abs().max() > 1e-3
    if modality == "audio":
        assert float(first.norm()) == pytest.approx(1, abs=1e-5)


def test_the_newer_preset_has_its_own_widths(context):
    encoder = load_text_encoder(context, "tiny-v1.5", "image")
    assert condition(encode_caption(context, encoder, "a boat")).shape == (1, 77, 1024)
    assert load_text_encoder(context, "tiny-v1.5", "audio").files == load_text_encoder(context, "tiny", "audio").files


def test_tokens_are_framed_padded_and_cut():
    clip, clap = (shipped_tokens(Tokenizer.tiny(), kind, 77) for kind in ("clip", "clap"))
    short, long = clip("a boat"), clip("boat " * 100)
    words = clap("a boat").ids
    assert (words[0], words[-1]) == (1, 2)
    assert short.ids == words + [2] * (77 - len(words))
    assert len(long.ids) == 77
    assert long.ids[-1] == 2
    assert short.dropped == 0
    assert long.dropped == len(Tokenizer.tiny().encode("boat " * 100)) - 75 > 20
    assert clap("").ids == [1, 2]


def test_what_is_cut_off_is_said(context, encoders):
    context.logged.clear()
    encode_caption(context, encoders["image"], "boat " * 100)
    dropped = len(Tokenizer.tiny().encode("boat " * 100)) - 75
    assert context.logged == [f"the caption is cut off after 75 tokens; {dropped} more did not fit"]


@pytest.mark.parametrize("modality", SHAPES)
def test_the_caption_route_takes_the_place_of_project_out(context, encoders, modality):
    routed = caption_route(context, signals(modality, "a red boat", order=3), encoders[modality])
    assert torch.equal(condition(routed), condition(encode_caption(context, encoders[modality], "a red boat")))
    assert routed[0][1] == {"modality": modality, "order": 3, "caption": "a red boat"}


def test_items_without_words_are_made_of_nothing_and_say_so(context, encoders):
    context.logged.clear()
    routed = caption_route(context, signals("image", ""), encoders["image"])
    assert torch.equal(condition(routed), condition(encode_caption(context, encoders["image"])))
    assert context.logged == ["no words stand before this picture; it is made of an empty caption"]


@pytest.mark.parametrize(
    ("given", "encoder", "code", "port"),
    [
        (signals("image", "x"), "audio", "wrong_modality", "text_encoder"),
        (signals("audio", "x"), "video", "wrong_modality", "text_encoder"),
        (signals("image"), "image", "no_caption", "signals"),
    ],
)
def test_caption_route_refuses(context, encoders, given, encoder, code, port):
    with pytest.raises(NodeError) as caught:
        caption_route(context, given, encoders[encoder])
    assert (caught.value.problem.code, caught.value.problem.port) == (code, port)
    assert caught.value.problem.remedy


def test_a_modality_without_a_text_encoder_is_refused(context):
    with pytest.raises(ModelError) as caught:
        load_text_encoder(context, "tiny", "smell")
    assert caught.value.problem.code == "no_text_encoder"


def test_a_missing_tokenizer_folder_is_named(context, encoders):
    lost = replace(encoders["image"], extras={"modality": "image", "tokenizer": "sd/tokenizer"})
    with pytest.raises(ModelError) as caught:
        encode_caption(context, lost, "x")
    assert caught.value.problem.code == "tokenizer_missing"
    assert str(context.models_dir / "sd/tokenizer") in caught.value.message


# --- true negatives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modality", "draw"), [("image", sample_image), ("video", sample_video), ("audio", sample_audio)]
)
def test_with_a_text_encoder_the_negative_is_that_of_no_words(context, encoders, modality, draw):
    decoder, encoder = load_decoder(context, "tiny", modality), encoders[modality]
    positive = encode_caption(context, encoder, "a boat")

    def run(**options):
        return draw(context, positive, decoder, seed=1, steps=2, **options)["samples"]

    empty = encode_caption(context, encoder, "")
    linked = run(text_encoder=encoder)
    assert torch.equal(linked, run(negative=empty))
    assert torch.equal(linked, run(negative=empty, text_encoder=encoder))
    zeros = [[torch.zeros_like(condition(positive)), {}]]
    assert torch.equal(run(), run(negative=zeros)), "without one, zeros"
    assert not torch.equal(linked, run())
    # What is given by hand counts, and without guidance there is no negative at all.
    other = encode_caption(context, encoder, "the sea")
    assert torch.equal(run(negative=other, text_encoder=encoder), run(negative=other))
    assert torch.equal(run(guidance=1.0, text_encoder=encoder), run(guidance=1.0))


def test_no_guidance_loads_no_text_encoder(context, encoders, tmp_path):
    fresh = SmallContext(tmp_path)
    fresh.folders = context.folders
    fresh.root = context.root
    decoder = load_decoder(context, "tiny", "image")
    positive = encode_caption(context, encoders["image"], "a boat")
    sample_image(fresh, positive, decoder, steps=1, guidance=1.0, text_encoder=encoders["image"])
    assert list(fresh.models) == [decoder.key]


def test_a_text_encoder_of_another_decoder_is_refused(context, encoders):
    decoder = load_decoder(context, "tiny", "image")
    positive = encode_caption(context, encoders["image"], "a boat")
    with pytest.raises(NodeError) as caught:
        decode_image(context, positive, decoder, steps=1, text_encoder=encoders["video"])
    assert (caught.value.problem.code, caught.value.problem.port) == ("wrong_width", "text_encoder")
    with pytest.raises(NodeError) as caught:
        decode_image(context, positive, decoder, encode_caption(context, encoders["video"]), steps=1)
    assert (caught.value.problem.code, caught.value.problem.port) == ("bad_negative", "negative")
