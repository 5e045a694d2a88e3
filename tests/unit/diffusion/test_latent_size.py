"""`diffusion.upscale_latent`: as torch interpolates, masks and all; what cannot be is refused."""

import pytest
import torch
from torch.nn.functional import interpolate

from graph_engine.errors import NodeError
from nodes.diffusion import (
    empty_latent,
    encode_inpaint,
    encode_text,
    load_checkpoint,
    mask_latent,
    sample,
    upscale_latent,
)
from tests.diffusion_models import DiffusionContext

torch.set_num_threads(1)
# diffusers hands torch tensors to numpy in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return DiffusionContext(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("models"))


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def refused(*arguments, **options):
    with pytest.raises(NodeError) as caught:
        upscale_latent(*arguments, **options)
    assert caught.value.problem.remedy
    return caught.value.problem.code, caught.value.problem.port


@pytest.mark.parametrize("method", ["nearest", "bilinear", "bicubic", "area"])
def test_each_method_is_torchs(method):
    latent = {"samples": noise(2, 4, 6, 10), "modality": "image"}
    kept = latent["samples"].clone()
    mode = "nearest-exact" if method == "nearest" else method
    larger = upscale_latent(latent, 1.5, method=method)
    assert torch.equal(larger["samples"], interpolate(kept, (9, 15), mode=mode))
    assert larger["modality"] == "image"
    assert torch.equal(latent["samples"], kept), "what came in is as it was"
    if method == "nearest":
        twice = upscale_latent(latent, 2.0)["samples"]
        assert torch.equal(twice, kept.repeat_interleave(2, -1).repeat_interleave(2, -2))
    if method in ("bilinear", "bicubic"):
        smaller = upscale_latent(latent, 0.5, method=method)["samples"]
        assert torch.equal(smaller, interpolate(kept, (3, 5), mode=mode, antialias=True))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"scale": 2.0}, (12, 20)),
        ({"scale": 0.125}, (1, 1)),
        ({"scale": 1.0}, (6, 10)),
        ({"width": 160}, (12, 20)),
        ({"height": 96}, (12, 20)),
        ({"width": 64, "height": 128}, (16, 8)),
        ({"width": 64, "height": 128, "mode": "fill"}, (16, 8)),
    ],
)
def test_sizes_are_pixels_and_count_more_than_the_scale(options, size):
    found = upscale_latent({"samples": noise(1, 4, 6, 10)}, **options)
    assert found["samples"].shape == (1, 4, *size)


def test_what_fills_is_cut_off_evenly():
    samples = noise(1, 4, 4, 8)
    found = upscale_latent({"samples": samples}, width=64, height=64, mode="fill")["samples"]
    assert torch.equal(found, upscale_latent({"samples": samples}, 2.0)["samples"][..., 4:12])


def test_the_frames_of_a_film_are_scaled_each():
    samples = noise(1, 4, 3, 4, 6)
    found = upscale_latent({"samples": samples, "modality": "video"}, 2.0, method="bilinear")
    assert found["samples"].shape == (1, 4, 3, 8, 12)
    for frame in range(3):
        alone = upscale_latent({"samples": samples[:, :, frame]}, 2.0, method="bilinear")["samples"]
        torch.testing.assert_close(found["samples"][:, :, frame], alone)


def test_masks_and_other_entries_stay_with_it(context):
    vae = load_checkpoint(context).vae
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 8:] = 1.0
    latent = {**encode_inpaint(context, torch.rand(1, 32, 32, 3), mask, vae), "note": "mine"}
    found = upscale_latent(latent, 1.5, method="bicubic")
    assert found.keys() == latent.keys() and found["note"] == "mine"
    assert found["noise_mask"].shape == (1, 1, 6, 6)
    assert set(found["noise_mask"].unique().tolist()) == {0.0, 1.0}, "a cell is drawn anew or kept"
    for name in ("samples", "masked_samples"):
        assert torch.equal(found[name], interpolate(latent[name], (6, 6), mode="bicubic"))
    one = mask_latent({"samples": noise(3, 4, 4, 4)}, mask)
    assert upscale_latent(one, 2.0)["noise_mask"].shape == (1, 1, 8, 8)
    sheet = upscale_latent(empty_latent(32, 32), 2.0)
    assert sheet["empty"] and sheet["samples"].shape == (1, 4, 8, 8)


def test_a_drawing_is_drawn_over_larger(context):
    """The "hires fix": small first, then larger from that, which keeps its composition."""
    model, clip, _ = load_checkpoint(context)
    condition = encode_text(context, clip, "a red boat")
    options = {"seed": 3, "steps": 6}
    small = sample(context, model, condition, empty_latent(64, 64), **options)
    larger = upscale_latent(small, 2.0, method="bilinear")
    fixed = sample(context, model, condition, larger, strength=0.5, **options)["samples"]
    alone = sample(context, model, condition, empty_latent(128, 128), **options)["samples"]
    assert fixed.shape == alone.shape == (1, 4, 16, 16)

    def likeness(drawing):
        return torch.corrcoef(torch.stack([drawing.flatten(), larger["samples"].flatten()]))[0, 1]

    assert likeness(fixed) > likeness(alone) + 0.2
    assert not torch.allclose(fixed, larger["samples"])


def test_what_cannot_be_is_refused():
    sheet = {"samples": noise(1, 4, 6, 10)}
    assert refused(sheet, width=60) == ("bad_size", "width")
    assert refused(sheet, height=60) == ("bad_size", "height")
    assert refused({"samples": noise(1, 8, 5, 16), "modality": "audio"}) == ("bad_latent", "latent")
    assert refused({"samples": noise(1, 4, 6)}) == ("bad_latent", "latent")
    long = {"samples": torch.zeros(1, 1, 1, 400)}
    assert refused(long, 8.0) == ("bad_size", "scale")
    assert refused(long, height=128) == ("bad_size", "height")
