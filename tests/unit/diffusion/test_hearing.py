"""What nodes of sound, speech, captions and conditions say that they take, against what tensors of true sizes count."""

import math

import pytest
import torch

from graph_engine.memory.reservations import stated_bytes
from graph_engine.models.spec import ModelSpec
from nodes.diffusion import caption, encode_text, generate_sound, hearing, speak, transcribe
from nodes.diffusion.part import part
from tests import diffusion_pipelines as make
from tests.live_bytes import LiveBytes, peak_bytes

SINGLE = torch.float32


def bundle(kind="x", dtype="float32", **parts):
    entries = {place: ModelSpec("x", {"config": config}, (), dtype).to_dict() for place, config in parts.items()}
    return ModelSpec("diffusion.pipeline", {"kind": kind}, (), dtype, {"parts": entries})


def close(counted, stated):
    """Never too little, and not much too much."""
    assert counted <= stated <= 1.35 * counted, f"counted {counted:,}, stated {stated:,}"


def ids(*shape):
    return torch.zeros(*shape, dtype=torch.long)


def test_a_condition():
    from transformers import CLIPTextConfig, CLIPTextModel

    config = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 8, "num_attention_heads": 20}
    counted = peak_bytes(
        lambda: CLIPTextModel(CLIPTextConfig(**config)), lambda m: m(ids(1, 77), output_hidden_states=True), SINGLE
    )
    clip = ModelSpec("clip", {}, (), "float32", {"encoders": [ModelSpec("x", config).to_dict()]})
    close(counted, hearing.conditioning({"clip": clip, "text": "a boat"}))
    assert hearing.conditioning({"clip": clip, "text": "a (red:1.2) boat"}) == 2 * hearing.conditioning(
        {"clip": clip, "text": "a boat"}
    )
    further = {"clip": clip, "text": "a boat " * 50, "long_text": "further rows"}
    assert hearing.conditioning(further) == 3 * hearing.conditioning({"clip": clip, "text": "a boat"})


def test_hearing():
    """Whisper large: half a minute, then the words."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = {
        "d_model": 1280, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 20,
        "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120, "num_mel_bins": 128,
    }  # fmt: skip

    def build(layers):
        sizes = {**config, "encoder_layers": layers, "decoder_layers": layers}
        return lambda: WhisperForConditionalGeneration(WhisperConfig(**sizes))

    def states(m):
        return m.model.encoder(torch.empty(1, 128, 3000)).last_hidden_state

    def words(m):  # the encoder's answer is there, and one token after the other is spoken; all of them in one go
        heard = torch.empty(1, 1500, 1280)
        return m.model.decoder(input_ids=ids(1, 100), encoder_hidden_states=heard, use_cache=True).past_key_values

    model = bundle(model={**config, "decoder_layers": 1})
    close(peak_bytes(build(1), states, SINGLE), hearing.transcribing({"model": model, "max_new_tokens": 100}))
    model = bundle(model={**config, "decoder_layers": 32})
    close(peak_bytes(build(32), words, SINGLE), hearing.transcribing({"model": model, "max_new_tokens": 100}))


def test_reading_aloud():
    from transformers import VitsConfig, VitsModel

    config = VitsConfig()
    letters = 100
    frames = hearing.FRAMES_PER_TOKEN * (2 * letters + 1)
    counted = peak_bytes(
        lambda: VitsModel(config), lambda m: m.decoder(torch.empty(1, config.flow_size, frames), None), SINGLE
    )
    close(counted, hearing.reading_aloud({"model": bundle(model={}), "text": "a" * letters}))
    long = 10_000  # letters, between which the attention is larger than the sound
    tokens = 2 * long + 1
    few = peak_bytes(
        lambda: VitsModel(config),
        lambda m: (
            m.text_encoder(ids(1, tokens), torch.empty(1, tokens, 1), attention_mask=ids(1, tokens)).last_hidden_state
        ),
        SINGLE,
    )
    close(few, hearing.reading_aloud({"model": bundle(model={}), "text": "a" * long}))


def test_playing_a_sound():
    from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    vocoder = {
        "model_in_dim": 64, "sampling_rate": 16_000, "upsample_initial_channel": 1024,
        "upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4], "normalize_before": False,
    }  # fmt: skip
    unet = {
        "sample_size": 256, "in_channels": 8, "out_channels": 8, "block_out_channels": (128, 256, 384),
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
        "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        "attention_head_dim": (4, 8, 12), "cross_attention_dim": [[None, 768, 1024]] * 3,
    }  # fmt: skip
    vae = {
        "in_channels": 1, "out_channels": 1, "latent_channels": 8, "block_out_channels": (128, 256, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 2,
    }  # fmt: skip
    frames = 500  # five seconds
    counted = [
        peak_bytes(
            lambda: AudioLDM2UNet2DConditionModel(**unet),
            lambda m: m(
                torch.empty(2, 8, frames // 4, 16), 1, encoder_hidden_states=torch.empty(2, 8, 768),
                encoder_hidden_states_1=torch.empty(2, 64, 1024), encoder_attention_mask_1=torch.ones(2, 64),
            ).sample,
            SINGLE,
        ),
        peak_bytes(lambda: AutoencoderKL(**vae), lambda m: m.decode(torch.empty(1, 8, frames // 4, 16)).sample, SINGLE),
        peak_bytes(lambda: SpeechT5HifiGan(SpeechT5HifiGanConfig(**vocoder)), lambda m: m(torch.empty(1, frames, 64)), SINGLE),
    ]  # fmt: skip
    stated = hearing.playing({"model": bundle("AudioLDM2Pipeline", unet=unet, vae=vae, vocoder=vocoder), "seconds": 5})
    close(max(counted), stated)
    # And each by itself, where the others are next to nothing.
    slim_unet, slim_vae = {**unet, "block_out_channels": (1,)}, {**vae, "block_out_channels": (1, 1, 1)}
    slim = {**vocoder, "upsample_initial_channel": 64}
    only_unet = bundle("AudioLDM2Pipeline", unet=unet, vae=slim_vae, vocoder=slim)
    close(counted[0], hearing.playing({"model": only_unet, "seconds": 5}))
    only_vocoder = bundle("AudioLDM2Pipeline", unet=slim_unet, vae=slim_vae, vocoder=vocoder)
    close(counted[2], hearing.playing({"model": only_vocoder, "seconds": 5}))


def test_playing_music():
    from transformers import EncodecConfig, EncodecModel

    codec = {
        "sampling_rate": 32_000, "num_filters": 64, "hidden_size": 128, "codebook_size": 2048,
        "upsampling_ratios": [8, 5, 4, 4], "audio_channels": 1, "use_causal_conv": False, "norm_type": "weight_norm",
        "target_bandwidths": [2.2],
    }  # fmt: skip
    seconds = 5
    frames = seconds * 32_000 // math.prod(codec["upsampling_ratios"])
    counted = peak_bytes(
        lambda: EncodecModel(EncodecConfig(**codec)), lambda m: m.decoder(torch.empty(1, 128, frames)), SINGLE
    )
    config = {"audio_encoder": codec, "decoder": {"hidden_size": 1024, "num_hidden_layers": 2}}
    close(counted, hearing.playing({"model": bundle("musicgen", model=config), "seconds": seconds}))
    deep = {**config, "decoder": {"hidden_size": 2048, "num_hidden_layers": 48}}
    cache = 2 * 48 * 2048 * 4 * frames
    assert hearing.playing({"model": bundle("musicgen", model=deep), "seconds": seconds, "guidance": 3.0}) > 2 * cache
    assert hearing.playing({"model": bundle("musicgen", model=deep), "seconds": seconds, "guidance": 1.0}) < 2 * cache


def test_a_caption():
    """BLIP asks its weights for numbers while it is built, so two real layers stand for twelve."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    eye = {"image_size": 384, "patch_size": 16, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2}
    words = {"hidden_size": 768, "num_hidden_layers": 2, "vocab_size": 512}
    module = BlipForConditionalGeneration(BlipConfig(vision_config=eye, text_config=words)).eval()
    with torch.no_grad(), LiveBytes() as counted:
        module.vision_model(torch.zeros(1, 3, 384, 384))
    one = hearing.captioning(
        {"model": bundle(model={"vision_config": eye, "text_config": words}), "max_new_tokens": 20}
    )
    close(counted.peak, one)
    model = bundle(model={"vision_config": eye, "text_config": {**words, "num_hidden_layers": 60}})
    assert hearing.captioning({"model": model}) > 2 * 60 * 768 * 4 * 577, "the cache, where it is larger"
    assert hearing.captioning({"model": model, "image": torch.zeros(3, 8, 8, 3)}) == 3 * hearing.captioning(
        {"model": model}
    )


@pytest.mark.parametrize("function", [caption, encode_text, generate_sound, speak, transcribe])
def test_the_nodes_state_it_and_what_has_not_arrived_is_nothing(function):
    assert callable(function.node_type.needs.working_bytes)
    assert stated_bytes(function.node_type, {}) == 0


@pytest.mark.parametrize(("name", "kind", "function"), [
    ("musicgen", "MusicgenForConditionalGeneration", generate_sound),
    ("whisper", "WhisperForConditionalGeneration", transcribe),
    ("vits", "VitsModel", speak),
])  # fmt: skip
def test_settings_of_a_folder_are_understood(tmp_path, name, kind, function):
    """The sizes come from what its library wrote, not from what is usual."""
    getattr(make, name)(tmp_path / name)
    spec = part(tmp_path / name, "transformers", kind, "float32")
    model = ModelSpec("diffusion.pipeline", {"kind": name}, (), "float32", {"parts": {"model": spec.to_dict()}})
    stated = stated_bytes(function.node_type, {"model": model, "text": "a red boat", "seconds": 1.0})
    assert 1_000 < stated < 2_000_000
