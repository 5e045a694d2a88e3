"""Sockets between NExT-GPT and other picture generators, both ways, on the tiny models."""

import pytest
import torch

from graph_engine.errors import NodeError
from graph_engine.models.load import materialise
from nodes.diffusion import (
    as_decoder,
    decoder_parts,
    empty_latent,
    encode_text,
    load_checkpoint,
    sample,
    vae_decode,
    vae_encode,
)
from nodes.nextgpt.caption_route import encode_caption, load_text_encoder
from nodes.nextgpt.decode_image import decode_image, image_to_latent, latent_to_image, sample_image
from nodes.nextgpt.families import FAMILIES as NEXTGPT
from nodes.nextgpt.load import load, load_decoder
from nodes.nextgpt.project_out import project_out
from nodes.nextgpt.working import drawing, steps
from tests.diffusion_models import FAMILY, DiffusionContext, pipeline, save_single_file

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BOTH = FAMILY | {family.name: family for family in NEXTGPT}


class BothContext(DiffusionContext):
    def model(self, spec):
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, BOTH[spec.family], "cpu")
        return self.models[spec.key]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return BothContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def spoken(context):
    """What NExT-GPT's projector makes of four signal tokens: a condition of 77 rows of 768."""
    models = load(context, "tiny")
    generator = torch.Generator().manual_seed(1)
    states = {name: torch.randn(4, 64, generator=generator) for name in ("hidden", "embeds")}
    return project_out(context, {"modality": "image", "order": 0, **states}, models.image_projector)


OPTIONS = {"seed": 5, "steps": 3, "guidance": 4.0, "scheduler": "ddim"}


def test_a_projected_condition_goes_into_another_sampler_and_decoder(context, spoken):
    model, clip, vae = load_checkpoint(context)
    latent = sample(context, model, spoken, empty_latent(64, 64), **OPTIONS)
    decoder = as_decoder(model, vae)
    theirs = sample_image(context, spoken, decoder, **OPTIONS)
    torch.testing.assert_close(theirs["samples"], latent["samples"])
    picture = vae_decode(context, latent, vae)
    torch.testing.assert_close(decode_image(context, spoken, decoder, **OPTIONS), picture)
    assert picture.std() > 0.05
    # And words of the other checkpoint's text encoder into NExT-GPT's decode node.
    words = encode_text(context, clip, "a red boat")
    assert not torch.allclose(decode_image(context, words, decoder, **OPTIONS), picture)


def test_a_single_file_is_a_decoder_too(context):
    pipe = pipeline("sd1", context.models_dir)
    pipe.save_pretrained(context.models_dir / "diffusers" / "one")
    save_single_file(context.models_dir / "checkpoints" / "original.safetensors", pipe, "sd1")
    condition = [[torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(2)), {}]]
    pictures = []
    for name in ("one", "original"):
        model, _, vae = load_checkpoint(context, name)
        decoder = as_decoder(model, vae)
        assert len(decoder.files) == (2 if name == "one" else 1)
        pictures.append(decode_image(context, condition, decoder, width=64, height=64, **OPTIONS))
    assert pictures[0].std() > 0.01
    torch.testing.assert_close(pictures[1], pictures[0])


def test_a_checkpoint_draws_as_a_decoder_does_where_nothing_is_said(context, spoken):
    """Guidance and steps of 0 are the decoder's own, and what is reserved for it is counted from them."""
    model, _, vae = load_checkpoint(context)
    decoder = as_decoder(model, vae)
    words = load_text_encoder(context, "tiny", "image")
    options = {"seed": 5, "width": 32, "height": 32}
    mine = decode_image(context, spoken, decoder, text_encoder=words, **options)
    same = {"steps": 50, "guidance": 7.5, "scheduler": "ddim", "negative": encode_caption(context, words)}
    torch.testing.assert_close(mine, decode_image(context, spoken, decoder, **options, **same))
    assert steps({"decoder": decoder}) == 50
    assert drawing({"decoder": decoder}) > 0


def test_a_decoder_of_nextgpt_is_a_model_and_a_vae(context, spoken):
    decoder = load_decoder(context, "tiny", "image")
    model, vae = decoder_parts(context, decoder)
    theirs = sample_image(context, spoken, decoder, **OPTIONS)
    mine = sample(context, model, spoken, empty_latent(64, 64), **OPTIONS)
    torch.testing.assert_close(mine["samples"], theirs["samples"])
    torch.testing.assert_close(vae_decode(context, mine, vae), latent_to_image(context, theirs, decoder))
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    ours, own = vae_encode(context, picture, vae), image_to_latent(context, picture, decoder)
    torch.testing.assert_close(ours["samples"], own["samples"])
    assert model.weight_bytes + vae.weight_bytes < decoder.weight_bytes + 1
    # Back again it is the same decoder.
    again = decode_image(context, spoken, as_decoder(model, vae), **OPTIONS)
    torch.testing.assert_close(again, decode_image(context, spoken, decoder, **OPTIONS))


def refused(call, *arguments, **options):
    with pytest.raises(NodeError) as caught:
        call(*arguments, **options)
    return caught.value.problem


def test_what_does_not_fit_is_said(context, spoken):
    pipeline("sdxl", context.models_dir).save_pretrained(context.models_dir / "diffusers" / "xl")
    pipeline("sd1", context.models_dir).save_pretrained(context.models_dir / "diffusers" / "narrow")
    xl, narrow = load_checkpoint(context, "xl"), load_checkpoint(context, "narrow")
    assert refused(as_decoder, xl.model, xl.vae).code == "wrong_architecture"
    found = refused(sample, context, xl.model, spoken, empty_latent(64, 64), steps=1)
    assert (found.code, found.port) == ("wrong_width", "positive")
    found = refused(sample, context, narrow.model, spoken, empty_latent(64, 64), steps=1)
    assert "768" in found.message and "32" in found.message
    found = refused(decode_image, context, spoken, as_decoder(narrow.model, narrow.vae), steps=1)
    assert found.code == "bad_condition"
    assert refused(decoder_parts, context, load_decoder(context, "tiny", "audio")).port == "decoder"
    assert refused(decode_image, context, spoken, load_decoder(context, "tiny", "video")).code == "wrong_modality"
