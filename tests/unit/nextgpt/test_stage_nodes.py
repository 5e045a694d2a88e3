"""The stage nodes of NExT-GPT as plain functions, on the tiny presets."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from graph_engine.errors import Cancelled, ModelError, NodeError
from graph_engine.graph.outcome import Skip
from graph_engine.models.load import materialise
from nodes.nextgpt import checkpoint
from nodes.nextgpt import preset as presets
from nodes.nextgpt.assemble import assemble
from nodes.nextgpt.conversation import conversation, encode_conversation
from nodes.nextgpt.decode_audio import decode_audio, latent_to_audio, sample_audio
from nodes.nextgpt.decode_image import decode_image, image_to_latent, latent_to_image, sample_image
from nodes.nextgpt.decode_video import decode_video, latent_to_video, sample_video
from nodes.nextgpt.denoise import Scheduler, Spacing
from nodes.nextgpt.encode import (
    encode_audio,
    encode_depth,
    encode_image,
    encode_imu,
    encode_text,
    encode_thermal,
    encode_video,
)
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.load import NextGpt, load, load_decoder, load_output_projector
from nodes.nextgpt.modality import MODALITIES, SPOKEN, TABLE, TRUNKS
from nodes.nextgpt.model.diffusion_config import PRESETS as SIZES
from nodes.nextgpt.model.imagebind import NEXTGPT_SCALED
from nodes.nextgpt.model.imagebind_config import MODALITIES as TRUNK_NAMES
from nodes.nextgpt.model.preprocess import TRUNK_OF
from nodes.nextgpt.model.schedulers import ALIASES, SCHEDULERS, SPACINGS
from nodes.nextgpt.model.signals import SignalVocabulary
from nodes.nextgpt.model.tokenizer import Tokenizer
from nodes.nextgpt.project_in import project_in
from nodes.nextgpt.project_out import project_out
from nodes.nextgpt.reason import reason
from nodes.nextgpt.route import route
from nodes.nextgpt.speech import Speech
from tests.contexts import FolderContext

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FAMILY = {family.name: family for family in FAMILIES}


class SmallContext(FolderContext):
    """Loads what it is asked for, once, and remembers it."""

    shared_models: Path

    def model(self, spec):
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, FAMILY[spec.family], "cpu")
        return self.models[spec.key]

    @property
    def models_dir(self):
        return self.shared_models


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def context(tmp_path_factory, models_dir):
    context = SmallContext(tmp_path_factory.mktemp("nodes"))
    context.shared_models = models_dir
    return context


@pytest.fixture(scope="module")
def tiny(context):
    return load(context, "tiny")


@pytest.fixture(scope="module")
def newer(context):
    return load(context, "tiny-v1.5")


@pytest.fixture
def fresh(context, tmp_path):
    """A context with nothing recorded yet; the models are shared."""
    fresh = SmallContext(tmp_path, models=context.models)
    fresh.shared_models = context.shared_models
    return fresh


def picture(height=48, width=64, count=1):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(1))


def sound(seconds=1.0, rate=16_000):
    time = torch.arange(int(seconds * rate)) / rate
    return {"waveform": (0.5 * torch.sin(2764.6 * time))[None, None], "sample_rate": rate}


def film(frames=6):
    return {"frames": picture(count=frames), "fps": 4.0, "audio": None}


def ask(text="draw a lighthouse"):
    return conversation(text)


def say(context, tiny, **wishes):
    options = {"image": "never", "video": "never", "audio": "never", "max_new_tokens": 48, "temperature": 1.0}
    return reason(context, ask(), tiny.language_model, **{**options, **wishes})


# --- the table and the presets --------------------------------------------------------------------------------------


def test_the_table_agrees_with_the_networks():
    assert {row.name: row.trunk for row in TABLE} == dict(TRUNK_OF)
    assert {row.trunk for row in TABLE if row.scaled} == NEXTGPT_SCALED
    assert set(TRUNKS) == set(TRUNK_NAMES)
    assert {*SCHEDULERS, *ALIASES} == set(get_args(Scheduler))
    assert tuple(SPACINGS) == get_args(Spacing)
    for row, size in zip(SPOKEN.values(), ("sd15", "zeroscope_576w", "audioldm_l"), strict=True):
        assert SIZES[size]().condition in (row.condition, row.condition[1:])
    assert set(get_args(presets.PresetName)) == set(presets.PRESETS)


def test_every_part_of_every_preset_has_a_family_and_json_sizes():
    for preset in presets.PRESETS.values():
        beside = {"video_upscaler", *(f"{name}_text_encoder" for name in SPOKEN)}
        # Nobody trained an upscaler for films of 64 pixels.
        beside -= {"video_upscaler"} if preset.name == "mini" else set()
        assert set(preset.parts) == {*NextGpt._fields, *beside}
        for part in preset.parts.values():
            assert part.family in FAMILY
            assert json.loads(json.dumps(part.config()))


def test_importing_the_nodes_loads_nothing_heavy():
    code = (
        "import sys, nodes.nextgpt, nodes.nextgpt.families\n"
        "print([m for m in ('torch', 'numpy', 'transformers', 'diffusers', 'tokenizers', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tiny_weights_are_the_same_everywhere(tmp_path, models_dir, tiny):
    for name in ("encoder", "image_projector", "audio_decoder"):
        checkpoint.specs_of("tiny", [name], tmp_path)
        place = Path("tiny") / f"{name}.safetensors"
        assert (tmp_path / place).read_bytes() == (models_dir / place).read_bytes()
    assert not list(tmp_path.glob("tiny/*.part"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "older recipe", "gone"])
def test_a_damaged_tiny_file_is_made_again(tmp_path, monkeypatch, damage):
    (spec,) = checkpoint.specs_of("tiny", ["input_projector"], tmp_path)
    path = Path(spec.files[0].path)
    good = path.read_bytes()
    if damage == "older recipe":
        monkeypatch.setattr(checkpoint, "RECIPE", 0)
        path.unlink()
        checkpoint.specs_of("tiny", ["input_projector"], tmp_path)
        monkeypatch.undo()
        assert path.read_bytes() != good
    elif damage == "gone":
        path.unlink()
    else:
        spoilt = {"cut": good[:-100], "flipped": good[:-1] + bytes([good[-1] ^ 1]), "empty": b"", "foreign": b"x" * 99}
        path.write_bytes(spoilt[damage])
    # A stage that has the spec from a cache notices it too.
    assert checkpoint.present(spec, tmp_path).config == spec.config
    assert path.read_bytes() == good


def test_an_unchanged_file_keeps_its_spec(tmp_path):
    (spec,) = checkpoint.specs_of("tiny", ["input_projector"], tmp_path)
    assert checkpoint.present(spec, tmp_path) is spec
    assert checkpoint.specs_of("tiny", ["input_projector"], tmp_path)[0].key == spec.key


def test_a_preset_without_its_files_says_which_and_where(context, models_dir):
    with pytest.raises(ModelError) as caught:
        load(context, "nextgpt-7b-tiva-v0")
    assert caught.value.problem.code == "model_missing"
    for place in (
        "imagebind_huge/encoder.safetensors",
        "nextgpt-7b-tiva-v0/language_model.safetensors",
        "nextgpt-7b-tiva-v0/audio_decoder.safetensors",
    ):
        assert str(models_dir / place) in caught.value.message
    with pytest.raises(ModelError, match="there is no preset 'huge'"):
        load(context, "huge")


def test_a_models_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "tiny").write_text("a file where the folder should be")
    with pytest.raises(ModelError) as caught:
        checkpoint.specs_of("tiny", ["input_projector"], tmp_path)
    assert caught.value.problem.code == "model_unwritable"


# --- encode and project in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encode", "value", "patches"),
    [
        (encode_image, picture(count=2), (2, 256)),
        (encode_video, film(), (1, 256)),
        (encode_audio, sound(), (1, 228)),
        (encode_depth, picture(), (1, 196)),
        (encode_thermal, picture(), (1, 196)),
        (encode_imu, [[0.1] * 2000] * 6, (1, 250)),
    ],
)
def test_encode_shapes(context, tiny, encode, value, patches):
    name = encode.__name__.removeprefix("encode_")
    for form, rows in (("auto", 1), ("global", 1), ("patch", patches[1])):
        embedding = encode(context, value, tiny.encoder, form)
        assert embedding["tensor"].shape == (patches[0], rows, presets.TINY_WIDTH)
        assert embedding["modality"] == name
        assert embedding["form"] == ("global" if form == "auto" else form)
        assert embedding["scaled"] is MODALITIES[name].scaled


def test_encode_text(context, tiny):
    short = encode_text(context, "a red boat", tiny.encoder)
    assert short["tensor"].shape == (1, 1, presets.TINY_WIDTH)
    assert not torch.equal(short["tensor"], encode_text(context, "a blue boat", tiny.encoder)["tensor"])
    long = encode_text(context, "boat " * 500, tiny.encoder, "no")
    assert long["tensor"].norm() == pytest.approx(1, abs=1e-4)


def test_only_the_trunk_that_is_used_is_loaded(tmp_path, models_dir, tiny):
    context = SmallContext(tmp_path)
    context.shared_models = models_dir
    encode_image(context, picture(), tiny.encoder)
    encode_video(context, film(), tiny.encoder)
    (module,) = context.models.values()
    assert module.config.modalities == ("vision",)


@pytest.mark.parametrize(
    ("encode", "value", "code"),
    [
        (encode_audio, {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}, "bad_medium"),
        (encode_video, {"frames": torch.zeros(0, 8, 8, 3), "fps": 8.0}, "bad_medium"),
        (encode_imu, [[1.0, 2.0]], "bad_medium"),
        (encode_imu, [["x"]], "bad_recording"),
        (encode_imu, {"a": 1}, "bad_recording"),
    ],
)
def test_encode_refuses_what_cannot_be_read(context, tiny, encode, value, code):
    with pytest.raises(NodeError) as caught:
        encode(context, value, tiny.encoder)
    assert caught.value.problem.code == code
    assert caught.value.problem.port
    assert caught.value.problem.remedy


def test_project_in_shapes(context, tiny, newer):
    patches = encode_image(context, picture(count=2), newer.encoder)
    assert patches["form"] == "patch"
    assert project_in(context, patches, newer.input_projector)["tensor"].shape == (2, 3, presets.TINY_HIDDEN)
    # A linear projector takes patches too: as many tokens.
    assert project_in(context, patches, tiny.input_projector)["tensor"].shape == (2, 256, presets.TINY_HIDDEN)
    tokens = project_in(context, encode_audio(context, sound(), tiny.encoder), tiny.input_projector)
    assert tokens["tensor"].shape == (1, 1, presets.TINY_HIDDEN)
    assert tokens["modality"] == "audio"


def test_project_in_refuses_another_width(context, tiny):
    with pytest.raises(NodeError) as caught:
        project_in(
            context, {"tensor": torch.ones(1, 1, 7), "modality": "image", "form": "global"}, tiny.input_projector
        )
    assert caught.value.problem.code == "wrong_width"
    assert "7 wide" in caught.value.message


# --- conversation, reason, route ------------------------------------------------------------------------------------


def tokens(modality, count=1, width=presets.TINY_HIDDEN):
    return {"tensor": torch.zeros(count, 1, width), "modality": modality}


def test_conversation_lays_out_media_in_port_order():
    turns = conversation("hello", audio10=tokens("audio"), audio2=tokens("image", 2), other=[tokens("video"), Skip()])
    (turn,) = turns
    assert turn["role"] == "user"
    assert [part.get("modality", "text") for part in turn["parts"]] == ["image", "image", "audio", "video", "text"]
    second = conversation("and now?", place="after the text", previous=turns, image=tokens("image"))
    assert [part["type"] for part in second[1]["parts"]] == ["text", "features"]
    assert second[0] is turn
    assert len(turns) == 1, "the earlier conversation stays as it was"


@pytest.mark.parametrize(("given", "code"), [({}, "empty_turn"), ({"text": "x", "role": "assistant"}, "wrong_role")])
def test_conversation_refuses(given, code):
    with pytest.raises(NodeError) as caught:
        conversation(**given)
    assert caught.value.problem.code == code


@pytest.mark.parametrize("template", ["auto", "legacy", "current"])
def test_reason_streams_exactly_what_it_says(fresh, tiny, template):
    generation = say(fresh, tiny, image="always", audio="always", template=template, seed=3)
    routed = route(generation)
    assert "".join(fresh.chunks) == routed.text != ""
    assert len(generation["ids"]) == len(generation["pieces"]) == len(generation["hidden"])
    assert generation["hidden"].shape[1] == presets.TINY_HIDDEN
    assert len(routed.image[0]["hidden"]) == 4
    assert len(routed.audio[0]["embeds"]) == 8
    assert routed.video == Skip("the language model did not ask for a video: it was forbidden to")
    assert fresh.progressed[-1][0] == len(generation["ids"])


def test_reason_is_determined_by_its_seed(context, tiny):
    first, same, other = (say(context, tiny, seed=seed)["ids"] for seed in (1, 1, 2))
    assert first == same != other


def test_reason_hears_what_is_in_the_conversation(context, tiny):
    images = [
        project_in(context, encode_image(context, value, tiny.encoder), tiny.input_projector)
        for value in (torch.zeros(1, 32, 32, 3), picture())
    ]
    said = [
        reason(
            context, conversation("what is it?", image=image), tiny.language_model, max_new_tokens=24, temperature=0.0
        )
        for image in images
    ]
    assert not torch.equal(said[0]["hidden"], said[1]["hidden"])


@pytest.mark.parametrize(
    ("turns", "options", "code"),
    [
        (conversation("x", image=tokens("image", width=9)), {}, "wrong_width"),
        (conversation("word " * 3000), {}, "prompt_too_long"),
        (conversation("x"), {"max_new_tokens": 4, "video": "always"}, "bad_options"),
        ([{"role": "user", "parts": [{"type": "smell"}]}], {}, "bad_part"),
        ([{"role": "assistant", "parts": [{"type": "text", "text": "x"}]}], {}, "bad_prompt"),
        ([], {}, "bad_prompt"),
    ],
)
def test_reason_refuses(context, tiny, turns, options, code):
    with pytest.raises(NodeError) as caught:
        reason(context, turns, tiny.language_model, **options)
    assert caught.value.problem.code == code
    assert caught.value.problem.port


def test_a_model_that_speaks_fewer_modalities_is_not_asked_for_the_others(context, tiny):
    model = replace(tiny.language_model, extras={**tiny.language_model.extras, "speaks": ["image"]})
    generation = reason(context, ask(), model, image="always", max_new_tokens=12)
    assert list(generation["vocabulary"]["tokens"]) == ["image"]
    assert (generation["wishes"], generation["limits"]) == ({"image": "always"}, {"image": 1})
    routed = route(generation)
    assert len(routed.image) == 1
    assert isinstance(routed.video, Skip)
    with pytest.raises(NodeError, match="'video', but this model signals only image") as caught:
        reason(context, ask(), model, video="always", max_new_tokens=40)
    assert caught.value.problem.code == "bad_options"


def test_a_preset_skips_what_it_does_not_have(context):
    from nodes.nextgpt.load import _specs

    encoder, absent = _specs(context, "tiny", "encoder", "smell_decoder")
    assert encoder.family == "nextgpt.encoder"
    assert absent == Skip("the preset 'tiny' has no smell decoder")


def test_reason_ends_when_it_is_cancelled(fresh, tiny):
    fresh.stop_after = 5
    with pytest.raises(Cancelled):
        say(fresh, tiny)
    assert len(fresh.progressed) <= 6


def test_speech_never_says_what_becomes_a_stop():
    tokenizer = Tokenizer.tiny()
    vocabulary = SignalVocabulary.create(tokenizer.size)
    heard = []
    words, stop = tokenizer.encode("a boat and"), tuple(tokenizer.encode("the sea"))
    speech = Speech(tokenizer, vocabulary, [tokenizer.eos_id, stop], heard.append)
    ids = [*words, *stop[:1], *vocabulary.run("image"), *words, *stop]
    for token in ids:
        speech.push(token)
    speech.close(len(ids) - len(stop))
    assert "".join(heard) == "".join(speech.pieces)
    assert len(speech.pieces) == len(ids) - len(stop)
    text = "".join(heard)
    assert text.count("boat and") == 2
    assert text.count("the") == 1, "the begin of a stop that never came is said, the stop is not"
    assert "the a boat" in text, "words after a run are parted from those before it"


def spoken(*said):
    """A GENERATION of words and runs: text, or the name of a modality."""
    tokenizer = Tokenizer.tiny()
    vocabulary = SignalVocabulary.create(tokenizer.size)
    ids, pieces = [], []
    for entry in said:
        run = vocabulary.tokens.get(entry)
        ids += run or [5]
        pieces += [""] * len(run) if run else [entry]
    rows = torch.arange(len(ids), dtype=torch.float32)[:, None].expand(-1, 4).clone()
    return {
        "ids": ids,
        "pieces": pieces,
        "hidden": rows,
        "embeds": rows + 0.5,
        "runs": [],
        "vocabulary": vocabulary.to_json(),
        "wishes": {"video": "never"},
        "stop_length": 0,
        "finished": "stop",
    }


def test_route_keeps_several_items_in_spoken_order():
    routed = route(spoken("one ", "image", " two ", "audio", "image", " three"))
    assert routed.text == "one  two  three"
    assert [signals["order"] for signals in routed.image] == [0, 2]
    assert [signals["order"] for signals in routed.audio] == [1]
    assert routed.image[0]["hidden"][:, 0].tolist() == [1, 2, 3, 4]
    assert routed.image[1]["hidden"][:, 0].tolist() == [14, 15, 16, 17]
    assert isinstance(routed.video, Skip)
    assert "did not ask for a video" in routed.video.message
    kinds = [event.get("modality", "text") for event in routed.reply]
    assert kinds == ["text", "image", "text", "audio", "image", "text"]
    assert "picture 2 at token 14" in routed.trace
    assert "no video: forbidden" in routed.trace


def test_route_survives_an_empty_and_a_broken_answer():
    nothing = route(spoken())
    assert (nothing.text, nothing.reply) == ("", [])
    assert all(isinstance(port, Skip) for port in (nothing.image, nothing.video, nothing.audio))
    broken = spoken("x", "image")
    for name in ("ids", "pieces", "hidden", "embeds"):
        broken[name] = broken[name][:-1]
    routed = route(broken)
    assert isinstance(routed.image, Skip)
    assert "broken run" in routed.trace


# --- project out and decode -----------------------------------------------------------------------------------------


def signals(modality, width=presets.TINY_HIDDEN):
    rows = torch.randn(SPOKEN[modality].signals, width, generator=torch.Generator().manual_seed(4))
    return {"modality": modality, "hidden": rows, "embeds": rows / 2, "order": 0}


@pytest.mark.parametrize(("modality", "shape"), [("image", (77, 768)), ("video", (77, 1024)), ("audio", (1, 512))])
def test_project_out_shapes(context, tiny, modality, shape):
    ((condition, facts),) = project_out(context, signals(modality), getattr(tiny, f"{modality}_projector"))
    assert condition.shape == (1, *shape)
    assert facts["modality"] == modality


@pytest.mark.parametrize(
    ("given", "projector", "code"),
    [("image", "video_projector", "wrong_modality"), ("image", "image_projector", "wrong_width")],
)
def test_project_out_refuses(context, tiny, given, projector, code):
    with pytest.raises(NodeError) as caught:
        project_out(context, signals(given, 10 if code == "wrong_width" else 64), getattr(tiny, projector))
    assert caught.value.problem.code == code


@pytest.fixture(scope="module")
def conditions(context, tiny):
    return {name: project_out(context, signals(name), getattr(tiny, f"{name}_projector")) for name in SPOKEN}


def test_decode_image(fresh, tiny, conditions):
    first = decode_image(fresh, conditions["image"], tiny.image_decoder, seed=1)
    assert first.shape == (1, 64, 64, 3)
    assert first.std() > 0.05
    assert [done for done, _, _ in fresh.progressed] == list(range(1, 9))
    assert torch.equal(first, decode_image(fresh, conditions["image"], tiny.image_decoder, seed=1))
    assert not torch.equal(first, decode_image(fresh, conditions["image"], tiny.image_decoder, seed=2))
    wide = decode_image(fresh, conditions["image"], tiny.image_decoder, steps=2, width=96)
    assert wide.shape == (1, 64, 96, 3)
    against = decode_image(fresh, conditions["image"], tiny.image_decoder, conditions["image"], seed=1, steps=2)
    assert not torch.equal(against, decode_image(fresh, conditions["image"], tiny.image_decoder, seed=1, steps=2))


def test_what_was_said_shows_in_the_picture(context, tiny, conditions):
    other = [[-conditions["image"][0][0], {}]]
    drawn = [
        decode_image(context, given, tiny.image_decoder, seed=1, steps=4) for given in (conditions["image"], other)
    ]
    assert (drawn[0] - drawn[1]).abs().mean() > 0.01


def test_decode_video(context, tiny, conditions):
    video = decode_video(context, conditions["video"], tiny.video_decoder, steps=2)
    assert video["frames"].shape == (8, 64, 64, 3)
    assert video["fps"] == 8.0
    short = decode_video(context, conditions["video"], tiny.video_decoder, steps=2, frames=3, fps=2.0, height=32)
    assert short["frames"].shape == (3, 32, 64, 3)
    assert short["fps"] == 2.0


def test_decode_audio(context, tiny, conditions):
    audio = decode_audio(context, conditions["audio"], tiny.audio_decoder, steps=2, seconds=0.5)
    assert audio["waveform"].shape == (1, 1, 8000)
    assert audio["sample_rate"] == 16_000
    assert audio["waveform"].std() > 0.01
    assert decode_audio(context, conditions["audio"], tiny.audio_decoder, steps=1)["waveform"].shape == (1, 1, 16_000)


def test_the_halves_make_the_whole(context, tiny, conditions):
    latent = sample_image(context, conditions["image"], tiny.image_decoder, seed=5, steps=3)
    assert latent["samples"].shape == (1, 4, 8, 8)
    whole = decode_image(context, conditions["image"], tiny.image_decoder, seed=5, steps=3)
    assert torch.equal(latent_to_image(context, latent, tiny.image_decoder), whole)
    film_latent = sample_video(context, conditions["video"], tiny.video_decoder, steps=1, frames=2)
    assert latent_to_video(context, film_latent, tiny.video_decoder)["frames"].shape == (2, 64, 64, 3)
    sound_latent = sample_audio(context, conditions["audio"], tiny.audio_decoder, steps=1, seconds=0.4)
    assert latent_to_audio(context, sound_latent, tiny.audio_decoder)["waveform"].shape == (1, 1, 6400)


def test_an_existing_picture_is_changed_a_little(context, tiny, conditions):
    latent = image_to_latent(context, picture(64, 64), tiny.image_decoder)
    assert latent["samples"].shape == (1, 4, 8, 8)
    near, far = (
        sample_image(context, conditions["image"], tiny.image_decoder, steps=8, latent=latent, strength=strength)
        for strength in (0.13, 1.0)
    )
    distance = [float((found["samples"] - latent["samples"]).abs().mean()) for found in (near, far)]
    assert distance[0] < distance[1]


def test_previews_are_small_pictures(fresh, tiny, conditions, monkeypatch):
    monkeypatch.setattr("nodes.nextgpt.denoise.PREVIEW_EVERY_S", 0.0)
    decode_image(fresh, conditions["image"], tiny.image_decoder, steps=3)
    decode_audio(fresh, conditions["audio"], tiny.audio_decoder, steps=3, seconds=0.5)
    assert len(fresh.previews) == 4, "one per step but the last"
    for data, media_type in fresh.previews:
        assert media_type == "image/png"
        assert data.startswith(b"\x89PNG")
        assert len(data) < 60_000


def test_decoding_stops_between_steps(fresh, tiny, conditions):
    fresh.stop_after = 6
    with pytest.raises(Cancelled):
        decode_image(fresh, conditions["image"], tiny.image_decoder, steps=100)
    assert len(fresh.progressed) < 6


@pytest.mark.parametrize(
    ("condition", "decoder", "options", "code"),
    [
        ("image", "audio_decoder", {}, "wrong_modality"),
        ("video", "image_decoder", {}, "bad_condition"),
        ("audio", "image_decoder", {}, "bad_condition"),
        ("image", "image_decoder", {"width": 60}, "bad_width"),
        (None, "image_decoder", {}, "bad_condition"),
    ],
)
def test_decode_refuses(context, tiny, conditions, condition, decoder, options, code):
    given = conditions[condition] if condition else []
    with pytest.raises(NodeError) as caught:
        decode_image(context, given, getattr(tiny, decoder), **options)
    assert caught.value.problem.code == code
    assert caught.value.problem.port


def test_single_loaders_give_the_same_specs(context, tiny, newer):
    assert load_decoder(context, "tiny", "audio") == tiny.audio_decoder
    assert load_output_projector(context, "tiny", "image") == tiny.image_projector
    assert load_decoder(context, "tiny-v1.5", "image") == newer.image_decoder != tiny.image_decoder
    ((condition, _),) = project_out(context, signals("image"), newer.image_projector)
    assert condition.shape == (1, 77, 1024)


# --- assemble -------------------------------------------------------------------------------------------------------


def test_assemble_puts_media_where_they_were_spoken():
    routed = route(spoken("look", "image", "and", "audio", "image"))
    drawn = [picture(), picture(8, 8)]
    done = assemble(routed.reply, images=drawn, audios=[sound()], previous=ask("hi"))
    assert done.reply_text == "look [picture 1]and [sound 1] [picture 2]"
    user, turn = done.conversation
    assert (user["role"], turn["role"]) == ("user", "assistant")
    kinds = ["text", "signal", "image", "text", "signal", "audio", "signal", "image"]
    assert [part["type"] for part in turn["parts"]] == kinds
    assert turn["parts"][2]["image"] is drawn[0]
    assert turn["parts"][7]["image"] is drawn[1]


def test_assemble_keeps_the_signal_of_what_was_not_made():
    reply = route(spoken("a", "image", "image", "video")).reply
    done = assemble(reply, images=[Skip("out of memory"), picture()])
    kinds = [part["type"] for part in done.conversation[0]["parts"]]
    assert kinds == ["text", "signal", "signal", "image", "signal"], "the second picture stays the second"
    assert [part.get("missing") for part in done.conversation[0]["parts"]] == [
        None,
        "out of memory",
        None,
        None,
        "nothing made it",
    ]
    assert done.reply_text == "a [picture 1: not made] [picture 2] [video 1: not made]"


def test_a_second_turn_sees_the_first_ones_picture(context, tiny):
    first = assemble(route(spoken("a", "image", "audio")).reply, images=[picture()], previous=ask())
    seen = encode_conversation(context, first.conversation, tiny.encoder, tiny.input_projector)
    parts = seen[1]["parts"]
    assert [part["type"] for part in parts] == ["text", "features", "signal"]
    expected = project_in(context, encode_image(context, picture(), tiny.encoder), tiny.input_projector)["tensor"][0]
    assert torch.equal(parts[1]["tensor"], expected)
    assert parts[2]["modality"] == "audio", "the sound was not made, so its signal stays"
    answer = reason(context, conversation("more", previous=seen), tiny.language_model, max_new_tokens=8)
    assert len(answer["ids"]) <= 8
