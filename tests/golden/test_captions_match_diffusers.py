"""Our text encoders and caption tokens against diffusers' pipelines on the same small weights and vocabulary files."""

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer, RobertaTokenizer

from nodes.nextgpt.model import audio_decoder, image_decoder
from nodes.nextgpt.model.caption_tokens import folder_tokens
from nodes.nextgpt.model.diffusion_config import DiffusionConfig
from nodes.nextgpt.model.schedulers import make_scheduler
from nodes.nextgpt.model.text_encoder import TextEncoder, TextEncoderConfig

torch.set_num_threads(1)
TEXTS = ["a boat", "", "a " * 90 + "boat"]


def clip_folder(folder: Path, pad: str) -> Path:
    words = ["<|startoftext|>", "<|endoftext|>", "!", "a", "b", "o", "t", "a</w>", "t</w>", "bo", "boa", "boat</w>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nb o\nbo a\nboa t</w>\n")
    facts = {"pad_token": pad, "bos_token": words[0], "eos_token": words[1], "unk_token": words[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps({**facts, "model_max_length": 77}))
    return folder


def clap_folder(folder: Path) -> Path:
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "o", "t", "Ġ", "bo", "at", "boat", "Ġboat", "Ġa"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nb o\na t\nbo at\nĠ boat\nĠ a\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    return folder


@pytest.mark.parametrize(("pad", "pad_id"), [("<|endoftext|>", 1), ("!", 2)])
def test_clip_conditions_agree_with_stable_diffusion(tmp_path, pad, pad_id):
    from diffusers import StableDiffusionPipeline

    folder = clip_folder(tmp_path / "tokenizer", pad)
    encoder = TextEncoder.random(TextEncoderConfig.tiny("clip", 32, 12), 0)
    decoder = image_decoder.ImageDecoder.random(DiffusionConfig.tiny("image", 32), 0)
    pipeline = StableDiffusionPipeline(
        vae=decoder.vae,
        unet=decoder.unet,
        scheduler=make_scheduler("ddim", decoder.config.schedule),
        text_encoder=encoder.model,
        tokenizer=CLIPTokenizer.from_pretrained(folder),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    tokenise = folder_tokens(folder, "clip", 77)
    assert tokenise("a boat").ids == [0, 7, 11, 1, *[pad_id] * 73]
    for text in TEXTS:
        with torch.no_grad():
            positive, negative = pipeline.encode_prompt(text, "cpu", 1, True)
        assert torch.equal(encoder(tokenise(text).ids), positive)
        assert torch.equal(encoder(tokenise("").ids), negative)


def test_clap_conditions_agree_with_audioldm(tmp_path):
    from diffusers import AudioLDMPipeline

    folder = clap_folder(tmp_path / "tokenizer")
    options = {**TextEncoderConfig.tiny("clap", 512, 15).options, "pad_token_id": 1, "max_position_embeddings": 514}
    encoder = TextEncoder.random(TextEncoderConfig("clap", options, 512), 0)
    decoder = audio_decoder.AudioDecoder.random(DiffusionConfig.tiny("audio"), 0)
    pipeline = AudioLDMPipeline(
        vae=decoder.vae,
        text_encoder=encoder.model,
        tokenizer=RobertaTokenizer.from_pretrained(folder),
        unet=decoder.unet,
        scheduler=make_scheduler("ddim", decoder.config.schedule),
        vocoder=decoder.vocoder,
    )
    tokenise = folder_tokens(folder, "clap", 512)
    assert tokenise("a boat").ids == [0, 5, 13, 2]
    for text in TEXTS:
        with torch.no_grad():
            negative, positive = pipeline._encode_prompt(text, "cpu", 1, True)
        ours = encoder(tokenise(text).ids)
        assert ours.shape == (1, 1, 512)
        assert float(ours.norm()) == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(ours[0], positive[None], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(encoder(tokenise("").ids)[0], negative[None], atol=1e-5, rtol=1e-4)
