"""Sound, video, captions and speech by models of diffusers and transformers, from small random folders."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from graph_engine import Engine, Settings
from graph_engine.errors import AnyloomError, Cancelled
from graph_engine.graph.registry import Registry
from graph_engine.models.catalog import Catalog
from nodes import control, diffusion, media
from nodes.diffusion import (
    caption,
    generate_sound,
    generate_video,
    load_captioner,
    load_recogniser,
    load_sound,
    load_speaker,
    load_video,
    speak,
    transcribe,
)
from nodes.diffusion.bundle import module, reads
from nodes.diffusion.families import FAMILIES
from nodes.diffusion.model.draw import drawing
from nodes.diffusion.speech import _pieces
from tests import diffusion_pipelines as make
from tests.diffusion_models import DiffusionContext

torch.set_num_threads(1)
pytestmark = [
    # diffusers hands torch tensors to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("audioldm2", "musicgen", "ltx", "animatediff", "whisper", "vits"):
            getattr(make, name)(folder / "pipelines" / name)
    return folder


@pytest.fixture
def context(tmp_path, models_dir):
    return DiffusionContext(tmp_path, models_dir)


def tone(seconds, rate=16_000):
    time = torch.arange(int(seconds * rate)) / rate
    return {"waveform": (0.5 * torch.sin(2764.6 * time))[None, None], "sample_rate": rate}


def refused(call, *arguments, **options):
    with pytest.raises(AnyloomError) as caught:
        call(*arguments, **options)
    assert caught.value.problem.remedy
    return caught.value.problem


def test_audioldm2_is_what_diffusers_plays(context, models_dir):
    from diffusers import AudioLDM2Pipeline

    model = load_sound(context, "audioldm2")
    options = {"negative": "rain", "seconds": 0.3, "steps": 2}
    first = generate_sound(context, model, "a red boat", seed=1, **options)
    assert first["waveform"].shape == (1, 1, 4800)
    assert first["sample_rate"] == 16_000
    assert first["waveform"].std() > 1e-3
    assert [done for done, _, _ in context.progressed] == [1, 2]
    assert not torch.equal(
        first["waveform"], generate_sound(context, model, "a red boat", seed=2, **options)["waveform"]
    )
    pipe = AudioLDM2Pipeline.from_pretrained(models_dir / "pipelines" / "audioldm2", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        "a red boat", negative_prompt="rain", audio_length_in_s=0.3, num_inference_steps=2, guidance_scale=3.5,
        generator=torch.Generator().manual_seed(1),
    ).audios  # fmt: skip
    assert (first["waveform"][0, 0] - torch.as_tensor(theirs[0])).abs().max() < 1e-4
    # Every part is a model of its own to the engine.
    parts = model.extras["parts"]
    assert set(parts) == {
        "unet", "vae", "text_encoder", "text_encoder_2", "projection_model", "language_model", "vocoder",
    }  # fmt: skip
    assert len(context.models) == len(parts)
    assert model.weight_bytes == sum(file["bytes"] for spec in parts.values() for file in spec["files"])


def test_musicgen(context):
    model = load_sound(context, "musicgen")
    first, again, other = (
        generate_sound(context, model, "music plays", seconds=0.3, seed=seed)["waveform"] for seed in (1, 1, 2)
    )
    assert first.shape[:2] == (1, 1)
    assert first.shape[-1] / 2000 == pytest.approx(0.3, abs=0.05)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.std() > 1e-3
    context.stop_after = 3
    with pytest.raises(Cancelled):
        generate_sound(context, model, "music plays", seconds=1.0, seed=1)


@pytest.fixture(scope="module")
def published(models_dir):
    """MusicGen with as many codebooks as the published ones, more words than a draw keeps, guidance in its settings."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make.musicgen(models_dir / "pipelines" / "musicgen-mono", codebooks=4, words=512)
        make.musicgen(models_dir / "pipelines" / "musicgen-stereo", codebooks=8, channels=2, words=512)


@pytest.mark.parametrize("guidance", [3.5, 1.0])
def test_without_its_draw_musicgen_is_what_transformers_plays(context, published, monkeypatch, guidance):
    """Guidance weighs the model's own scores: filtered and noised before, they would be no numbers."""
    monkeypatch.setattr("nodes.diffusion.model.draw.gumbel", lambda shape, generator: torch.zeros(shape))
    model = load_sound(context, "musicgen-mono")
    mine = generate_sound(context, model, "music plays", seconds=0.3, guidance=guidance)["waveform"]
    inputs = make.tokenizer()(["music plays"], return_tensors="pt")
    theirs = module(context, model).generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=18,
        guidance_scale=guidance,
        do_sample=False,
    )
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("name", "channels"), [("musicgen-mono", 1), ("musicgen-stereo", 2)])
@pytest.mark.parametrize("seconds", [0.1, 0.33, 1.0])
def test_music_is_as_long_as_it_was_asked_for(context, published, name, channels, seconds):
    model = load_sound(context, name)
    first, other = (
        generate_sound(context, model, "music plays", seconds=seconds, seed=seed)["waveform"] for seed in (1, 2)
    )
    assert first.shape == (1, channels, round(seconds * 2000))
    assert not torch.equal(first, other)


def test_drawing_is_from_the_distribution():
    """20,000 draws from three words of known probability, and never a word beyond the k best."""
    scores = torch.log(torch.tensor([[0.6, 0.3, 0.07, 0.03]])).expand(20_000, -1)
    drawn = drawing(torch.Generator().manual_seed(0))(None, scores).argmax(-1)
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.3, 0.07, 0.03]), atol=0.01, rtol=0)
    best = drawing(torch.Generator().manual_seed(0), top_k=2)(None, scores).argmax(-1)
    assert set(best.tolist()) == {0, 1}


def test_ltx_is_what_diffusers_films(context, models_dir):
    from diffusers import LTXPipeline

    model = load_video(context, "ltx")
    options = {"width": 32, "height": 32, "frames": 9, "steps": 2}
    film = generate_video(context, model, "a red boat", "rain", seed=3, **options)
    assert film["frames"].shape == (9, 32, 32, 3)
    assert film["fps"] == 8.0
    assert [done for done, _, _ in context.progressed] == [1, 2]
    pipe = LTXPipeline.from_pretrained(models_dir / "pipelines" / "ltx", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt="a red boat", negative_prompt="rain", width=32, height=32, num_frames=9, num_inference_steps=2,
        guidance_scale=3.0, frame_rate=8, generator=torch.Generator().manual_seed(3), output_type="pt",
    ).frames[0]  # fmt: skip
    assert (film["frames"].permute(0, 3, 1, 2) - theirs).abs().max() < 1e-4
    found = refused(generate_video, context, model, "a boat", width=40, height=32, frames=9)
    assert found.code == "bad_size"
    context.stop_after = 1
    with pytest.raises(Cancelled):
        generate_video(context, model, "a boat", seed=3, **options)


def test_animatediff_is_what_diffusers_films(context, models_dir):
    from diffusers import AnimateDiffPipeline

    model = load_video(context, "animatediff")
    film = generate_video(context, model, "a boat", "rain", 32, 48, 3, 8.0, 2, 4.0, 3)
    assert film["frames"].shape == (3, 48, 32, 3)
    pipe = AnimateDiffPipeline.from_pretrained(models_dir / "pipelines" / "animatediff", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt="a boat", negative_prompt="rain", width=32, height=48, num_frames=3, num_inference_steps=2,
        guidance_scale=4.0, generator=torch.Generator().manual_seed(3), output_type="pt",
    ).frames[0]  # fmt: skip
    assert (film["frames"].permute(0, 3, 1, 2) - theirs).abs().max() < 1e-4
    assert film["frames"].std() > 0.02


def test_whisper_hears_sounds_of_any_length(context):
    model = load_recogniser(context, "whisper")
    once = transcribe(context, tone(0.6), model, max_new_tokens=4)
    assert set(once.split()) <= set(make.WORDS)
    assert len(once.split()) >= 1
    # The folder's recogniser takes one second at a time.
    pieces = _pieces(tone(2.4), 16_000, 1)
    assert [len(piece) for piece in pieces] == [16_000, 16_000, 6_400]
    each = [
        transcribe(context, {"waveform": piece[None, None], "sample_rate": 16_000}, model, max_new_tokens=4)
        for piece in pieces
    ]
    assert transcribe(context, tone(2.4), model, max_new_tokens=4) == " ".join(filter(None, each))
    stereo = {"waveform": tone(0.6, 8000)["waveform"].expand(-1, 2, -1), "sample_rate": 8000}
    assert transcribe(context, stereo, model, max_new_tokens=4)
    assert refused(transcribe, context, tone(0.6), model, language="de").code == "one_language"


def test_whisper_hears_the_language_it_is_told(context, models_dir):
    from transformers import WhisperForConditionalGeneration

    folder = models_dir / "pipelines" / "whisper-many"
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make.whisper(folder)
        whisper = WhisperForConditionalGeneration.from_pretrained(folder)
        told = {"is_multilingual": True, "lang_to_id": {"<|en|>": 4, "<|zh|>": 5}, "no_timestamps_token_id": 8}
        for name, value in {**told, "task_to_id": {"transcribe": 6, "translate": 7}}.items():
            setattr(whisper.generation_config, name, value)
        whisper.generation_config._from_model_config = False
        whisper.save_pretrained(folder)
    model = load_recogniser(context, "whisper-many")
    sound = tone(1.0)
    heard = {
        name: transcribe(context, sound, model, language=name) for name in ("en", " EN ", "english", "chinese", "zh")
    }
    assert heard["en"] == heard[" EN "] == heard["english"]
    assert heard["zh"] == heard["chinese"]
    for unknown in ("klingon", "de"):  # one that nobody knows, one that this model lacks
        found = refused(transcribe, context, sound, model, language=unknown)
        assert (found.code, found.port) == ("unknown_language", "language")
        assert unknown in found.message


def test_vits_speaks(context):
    model = load_speaker(context, "vits")
    speak(context, "a", model, 0)
    state = torch.random.get_rng_state()
    first, again, other = (speak(context, "a red boat", model, seed)["waveform"] for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.shape[:2] == (1, 1)
    assert first.std() > 0.01
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(speak(context, "a red boat on the sea", model, 1)["waveform"][0, 0]) > first.shape[-1]


def test_a_caption_follows_the_picture(context):
    model = load_captioner(context)
    pictures = torch.rand(2, 48, 64, 3, generator=torch.Generator().manual_seed(1))
    pictures[1] = torch.tensor([0.9, 0.1, 0.1])
    lines = caption(context, pictures, model, max_new_tokens=8).splitlines()
    assert len(lines) == 2
    assert lines[0] != lines[1]
    assert lines[1] == caption(context, pictures[1:], model, max_new_tokens=8)
    grey = pictures[:1, ..., :1]
    assert caption(context, grey, model, 8) == caption(context, grey.expand(-1, -1, -1, 3), model, 8)
    assert context.progressed[-1][1] == 8


def git():
    from transformers import CLIPImageProcessorPil, GitConfig, GitForCausalLM

    eye = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": len(make.WORDS), "bos_token_id": 3, "eos_token_id": 1, "pad_token_id": 0, **eye}
    config = GitConfig(vision_config={**eye, "image_size": 32, "patch_size": 16}, initializer_range=1.0, **words)
    sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return GitForCausalLM(config), CLIPImageProcessorPil(**sides)


def vit_gpt2():
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )

    eye = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder = ViTConfig(**eye, image_size=32, patch_size=16, initializer_range=1.0)
    decoder = GPT2Config(
        vocab_size=len(make.WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=3, eos_token_id=1,
        initializer_range=1.0,
    )  # fmt: skip
    model = VisionEncoderDecoderModel(VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder))
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id, settings.bos_token_id, settings.eos_token_id, settings.pad_token_id = (
            3,
            3,
            1,
            0,
        )
    return model, ViTImageProcessorPil(size={"height": 32, "width": 32})


@pytest.mark.parametrize("build", [git, vit_gpt2])
def test_captions_are_those_of_transformers(context, models_dir, build):
    from PIL import Image

    folder = models_dir / "transformers" / build.__name__
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model, processor = build()
        for part in (model.eval(), processor, make.tokenizer()):
            part.save_pretrained(folder)
    pixels = torch.randint(0, 256, (2, 40, 60, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    mine = caption(context, pixels / 255, load_captioner(context, build.__name__), max_new_tokens=8)
    shown = processor(images=[Image.fromarray(picture.numpy()) for picture in pixels], return_tensors="pt")
    ids = model.generate(pixel_values=shown["pixel_values"], max_new_tokens=8, do_sample=False, num_beams=1)
    assert mine == "\n".join(make.tokenizer().batch_decode(ids, skip_special_tokens=True))
    assert len(set(mine.splitlines())) == 2, "each picture has a caption of its own"


def test_a_folder_of_another_kind_is_refused(context, models_dir):
    found = refused(load_sound, context, "ltx")
    assert (found.code, found.port) == ("unknown_architecture", "name")
    assert "LTXPipeline" in found.message and "musicgen" in found.remedy
    found = refused(load_recogniser, context, "absent")
    assert found.code == "model_missing"
    assert "pipelines/whisper" in found.remedy


def test_the_content_key_rests_on_every_part_of_every_folder(models_dir):
    """A replaced weight file must be other work: each file of weights is among those that are stamped."""
    for folder in ("audioldm2", "ltx", "animatediff", "musicgen", "whisper", "vits"):
        stamped = reads({"name": folder})
        files = list((models_dir / "pipelines" / folder).rglob("*.safetensors"))
        assert files
        assert {path.relative_to(models_dir).as_posix() for path in files} <= set(stamped)
    assert reads({"name": "tiny-captioner"}) == []


def test_every_file_of_a_folder_is_stamped(models_dir, tmp_path):
    """Shards, vocabularies and settings decide on what is made as whole weight files do; also in a folder named [so]."""
    from fnmatch import fnmatch

    from transformers import WhisperForConditionalGeneration

    from nodes.diffusion.checkpoint import reads as of_checkpoint
    from tests.diffusion_models import pipeline

    def unstamped(folder, root, names):
        files = [path.relative_to(root) for path in sorted(folder.rglob("*")) if path.is_file()]
        assert len(files) > 3
        return [
            str(file) for file in files
            if not any(fnmatch(str(file), name) and name.count("/") == len(file.parts) - 1 for name in names)
        ]  # fmt: skip

    for name in ("audioldm2", "ltx", "animatediff", "musicgen", "whisper", "vits"):
        assert not unstamped(models_dir / "pipelines" / name, models_dir, reads({"name": name}))
    cut = copy_of("whisper", models_dir, "[cut] whisper")
    WhisperForConditionalGeneration.from_pretrained(cut).save_pretrained(cut, max_shard_size="10KB")
    assert len(list(cut.glob("*-of-*.safetensors"))) > 1
    (cut / "model.safetensors").unlink()
    assert not unstamped(cut, models_dir, reads({"name": "[cut] whisper"}))
    assert reads({"name": ""}) == reads({"name": "/"}) == reads({"name": "../whisper"}) == []
    pipe = pipeline("sd1", tmp_path)
    pipe.save_pretrained(tmp_path / "diffusers" / "cut", max_shard_size="100KB")
    assert len(list((tmp_path / "diffusers" / "cut" / "unet").glob("*-of-*.safetensors"))) > 1
    assert not unstamped(tmp_path / "diffusers" / "cut", tmp_path, of_checkpoint("cut"))


def copy_of(folder, models_dir, name):
    import shutil

    return shutil.copytree(models_dir / "pipelines" / folder, models_dir / "pipelines" / name)


def test_lost_tensors_are_named(context, models_dir):
    folder = copy_of("vits", models_dir, "vits-lost")
    state = load_file(folder / "model.safetensors")
    lost = sorted(key for key in state if key.startswith("text_encoder."))[0]
    save_file(
        {key: value for key, value in state.items() if key != lost}, folder / "model.safetensors", {"format": "pt"}
    )
    found = refused(speak, context, "a", load_speaker(context, "vits-lost"))
    assert found.code == "model_mismatch"
    assert lost in found.message
    folder = copy_of("ltx", models_dir, "ltx-lost")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({key: value for key, value in load_file(path).items() if key != "proj_in.bias"}, path)
    model = load_video(context, "ltx-lost")
    found = refused(generate_video, context, model, "a", width=32, height=32, frames=9, steps=1)
    assert found.code == "model_mismatch"
    assert "proj_in.bias" in found.message


def test_a_cut_file_and_a_missing_tokenizer_are_named(context, models_dir):
    folder = copy_of("vits", models_dir, "vits-cut")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    assert refused(load_speaker, context, "vits-cut").code == "model_damaged"
    folder = copy_of("whisper", models_dir, "whisper-bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    found = refused(transcribe, context, tone(0.5), load_recogniser(context, "whisper-bare"))
    assert found.code == "model_missing"


def test_a_class_that_is_no_model_is_never_called(context, models_dir):
    folder = copy_of("ltx", models_dir, "ltx-odd")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "DDIMScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    model = load_video(context, "ltx-odd")
    assert refused(module, context, model, "vae").code == "unknown_architecture"


@pytest.mark.asyncio
async def test_the_engine_runs_a_pipeline_and_counts_its_bytes(tmp_path, models_dir):
    registry, catalog = Registry(), Catalog(FAMILIES)
    for pack in (control, diffusion, media):
        registry.add_module(pack)
    document = {
        "format": "anyloom",
        "version": 1,
        "nodes": {
            "model": {"type": "diffusion.load_sound", "values": {"name": "musicgen"}},
            "play": {
                "type": "diffusion.generate_sound",
                "values": {"text": "music plays", "seconds": 0.2},
                "links": {"model": "model.sound_model"},
            },
            "save": {"type": "media.save_audio", "links": {"audio": "play.audio"}},
        },
    }
    settings = Settings(data_dir=tmp_path, models_dir=models_dir)
    async with await Engine.open(settings, registry=registry, catalog=catalog) as engine:
        record = await engine.submit(document)
        record = await engine.wait(record.id)
        assert record.status == "succeeded", record.errors
        [device] = engine.models.stats()
        [resident] = device["models"]
        size = (models_dir / "pipelines" / "musicgen" / "model.safetensors").stat().st_size
        assert resident["bytes"] == pytest.approx(size, rel=0.2)
        assert resident["leases"] == 0
