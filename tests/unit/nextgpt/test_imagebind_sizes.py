"""Sizes, shapes and refusals of the ImageBind encoder; its arithmetic is checked in tests/golden."""

from __future__ import annotations

import json
import time

import pytest
import torch
from torch import Tensor, nn

from nodes.nextgpt.model.imagebind import TEXT_MASK_KEY, ImageBind
from nodes.nextgpt.model.imagebind_config import MODALITIES, ImageBindConfig, TrunkSize
from nodes.nextgpt.model.transformer import Attention

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def tiny() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(ImageBindConfig.tiny()).eval()


def sample(modality: str, batch: int = 1) -> Tensor:
    if modality == "text":
        ids = torch.zeros(batch, 77, dtype=torch.int64)
        ids[:, :4] = torch.tensor([49406, 320, 1125, 49407])
        return ids
    shapes = {"vision": (3, 224, 224), "audio": (1, 128, 204), "imu": (6, 2000)}
    return torch.rand(batch, *shapes.get(modality, (1, 224, 224)))


@pytest.fixture(scope="module")
def huge() -> ImageBind:
    with torch.device("meta"):
        return ImageBind(ImageBindConfig.huge())


def test_huge_has_the_published_size(huge: ImageBind) -> None:
    assert sum(p.numel() for p in huge.parameters()) == 1_200_781_057
    keys = set(huge.state_dict())
    assert TEXT_MASK_KEY not in keys
    assert len(keys | {TEXT_MASK_KEY}) == 1_311  # the file also stores the causal mask, a constant


@pytest.mark.parametrize(
    ("modality", "parameters"),
    [
        ("vision", 632_829_440),
        ("text", 354_032_641),
        ("audio", 86_235_648),
        ("depth", 21_871_872),
        ("thermal", 86_211_072),
        ("imu", 19_600_384),
    ],
)
def test_each_trunk_has_the_published_size(modality: str, parameters: int) -> None:
    with torch.device("meta"):
        model = ImageBind(ImageBindConfig.huge([modality]))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("modality_preprocessors.vision.rgbt_stem.proj.1.weight", (1280, 3, 2, 14, 14)),
        ("modality_preprocessors.vision.pos_embedding_helper.pos_embed", (1, 257, 1280)),
        ("modality_preprocessors.text.token_embedding.weight", (49408, 1024)),
        ("modality_preprocessors.audio.rgbt_stem.proj.weight", (768, 1, 16, 16)),
        ("modality_preprocessors.audio.pos_embedding_helper.pos_embed", (1, 229, 768)),
        ("modality_preprocessors.depth.depth_stem.norm_layer.bias", (384,)),
        ("modality_preprocessors.imu.imu_stem.proj.weight", (512, 48)),
        ("modality_preprocessors.imu.pos_embed", (1, 251, 512)),
        ("modality_trunks.vision.pre_transformer_layer.0.weight", (1280,)),
        ("modality_trunks.thermal.blocks.11.attn.bias_k", (1, 1, 768)),
        ("modality_heads.depth.2.weight", (1024, 384)),
        ("modality_heads.imu.3.weight", (1024, 512)),
        ("modality_heads.text.proj.1.weight", (1024, 1024)),
        ("modality_postprocessors.audio.1.log_logit_scale", ()),
    ],
)
def test_published_names(huge: ImageBind, key: str, shape: tuple[int, ...]) -> None:
    assert huge.state_dict()[key].shape == shape


def test_tiny_builds_at_once() -> None:
    begin = time.perf_counter()
    ImageBind(ImageBindConfig.tiny())
    assert time.perf_counter() - begin < 0.3


@pytest.mark.parametrize("config", [ImageBindConfig.huge(), ImageBindConfig.tiny(["audio", "vision"])])
def test_config_survives_json(config: ImageBindConfig) -> None:
    assert ImageBindConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_config_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="vison"):
        ImageBindConfig.from_dict({"vison": {"width": 8, "blocks": 1, "heads": 1}})
    with pytest.raises(ValueError, match="'vision'"):
        ImageBindConfig.tiny(["video"])
    with pytest.raises(ValueError, match="multiple of heads"):
        TrunkSize(10, 1, 3)
    with pytest.raises(ValueError, match="vision_patch"):
        ImageBindConfig(vision_patch=15)


@pytest.mark.parametrize("kind", ["global", "patch"])
@pytest.mark.parametrize("modality", MODALITIES)
@torch.no_grad()
def test_shapes_and_norms(tiny: ImageBind, modality: str, kind: str) -> None:
    out = tiny.encode(modality, sample(modality, 2), kind=kind)  # type: ignore[arg-type]
    assert out.shape == (2, tiny.config.feature_count(modality, kind), 32)
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(out.shape[:2]))


@pytest.mark.parametrize(("modality", "count"), list(zip(MODALITIES, (256, 1, 228, 196, 196, 250), strict=True)))
def test_patch_counts(modality: str, count: int) -> None:
    assert ImageBindConfig.huge().feature_count(modality, "patch") == count
    assert ImageBindConfig.huge().feature_count(modality, "global") == 1


@pytest.mark.parametrize(
    ("modality", "scale"), list(zip(MODALITIES, (1.0, 1 / 0.07, 20.0, 5.0, 10.0, 5.0), strict=True))
)
@torch.no_grad()
def test_scale_is_the_published_start_value(tiny: ImageBind, modality: str, scale: float) -> None:
    plain, scaled = (tiny.encode(modality, sample(modality) * 0 + 1, scale=flag) for flag in (False, True))
    torch.testing.assert_close(scaled, plain * scale)


def test_the_learned_scale_is_clipped() -> None:
    model = ImageBind(ImageBindConfig.tiny(["text"]))
    with torch.no_grad():
        model.state_dict()["modality_postprocessors.text.1.log_logit_scale"].fill_(9.0)
        assert model.encode("text", sample("text"), scale=True).norm() == pytest.approx(100.0, rel=1e-5)


@pytest.mark.parametrize("modality", ["vision", "audio", "depth"])
@torch.no_grad()
def test_clips_are_averaged_after_normalisation(tiny: ImageBind, modality: str) -> None:
    clips = torch.rand(2, 3, *sample(modality).shape[1:])
    together = tiny.encode(modality, clips, kind="patch", scale=True)
    apart = torch.stack([tiny.encode(modality, clips[:, i], kind="patch", scale=True) for i in range(3)])
    torch.testing.assert_close(together, apart.mean(dim=0), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_still_image_is_a_clip_of_equal_frames(tiny: ImageBind) -> None:
    image = sample("vision")
    clip = image[:, None, :, None].expand(-1, 1, -1, 2, -1, -1)  # B S 3 T H W
    torch.testing.assert_close(tiny.encode("vision", image), tiny.encode("vision", clip))


@torch.no_grad()
def test_text_behind_its_end_is_not_read(tiny: ImageBind) -> None:
    ids, other = sample("text"), sample("text")
    other[:, 4:] = 49407  # padded with the end token, as some tokenizers do
    torch.testing.assert_close(tiny.encode("text", ids), tiny.encode("text", other))
    other[:, 2] = 7
    assert not torch.allclose(tiny.encode("text", ids), tiny.encode("text", other), atol=1e-3)


@pytest.mark.parametrize(("bias_kv", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_equals_torchs(bias_kv: bool, causal: bool) -> None:
    torch.manual_seed(1)
    ours = Attention(24, 4, bias_kv=bias_kv)
    reference = nn.MultiheadAttention(24, 4, add_bias_kv=bias_kv, batch_first=True)
    nn.init.normal_(ours.in_proj_bias)
    nn.init.normal_(ours.out_proj.bias)
    reference.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 9, 24)
    mask = torch.ones(9, 9, dtype=torch.bool).triu(1) if causal else None
    expected, _ = reference(x, x, x, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(ours(x, causal=causal), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("modality", "value", "word"),
    [
        ("vision", torch.zeros(1, 3, 200, 224), "preprocess"),
        ("vision", torch.zeros(1, 5, 3, 4, 224, 224), "preprocess"),
        ("vision", torch.zeros(0, 3, 224, 224), "preprocess"),
        ("vision", torch.zeros(2, 0, 3, 224, 224), "preprocess"),
        ("audio", torch.zeros(1, 1, 128, 200), "preprocess"),
        ("imu", torch.zeros(1, 2000, 6), "preprocess"),
        ("text", torch.zeros(1, 77), "integer"),
        ("text", torch.zeros(1, 76, dtype=torch.int64), "preprocess"),
        ("image", torch.zeros(1, 3, 224, 224), "'vision'"),
    ],
)
def test_refusals_say_what_to_do(tiny: ImageBind, modality: str, value: Tensor, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        tiny.encode(modality, value)


def test_an_unknown_kind_and_a_trunk_that_was_not_built() -> None:
    model = ImageBind(ImageBindConfig.tiny(["imu"]))
    with pytest.raises(ValueError, match="'global' or 'patch'"):
        model.encode("imu", sample("imu"), kind="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\['imu'\]"):
        model.encode("vision", sample("vision"))
