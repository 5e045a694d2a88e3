"""CLIP and SigLIP towers in the encode nodes against transformers' own networks and image processors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor

from graph_engine.errors import ModelError, NodeError
from nodes.nextgpt.encode import encode_audio, encode_depth, encode_image, encode_text, encode_video
from nodes.nextgpt.model.vision_tower import TowerConfig, VisionTower, preprocess
from nodes.nextgpt.project_in import project_in
from nodes.nextgpt.vision_tower import load_vision_tower
from tests.contexts import ModelsContext

torch.set_num_threads(1)

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": 14,
}
PATCHES = {"clip": (56 // 14) ** 2, "siglip": (42 // 14) ** 2}


def processor_of(kind: str) -> Any:
    if kind == "clip":
        return transformers.CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    return transformers.SiglipImageProcessorPil(size={"height": 42, "width": 42})


def network_of(kind: str, whole: bool = False) -> Any:
    """A small random network; weights wide enough that pictures differ."""
    torch.manual_seed(3)
    text = {**SIZES, "vocab_size": 50, "max_position_embeddings": 8, "projection_size": 32}
    if kind == "clip":
        vision = {**SIZES, "image_size": 56}
        if whole:
            return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision))
        return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision))
    vision = {**SIZES, "image_size": 42}
    if whole:
        return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision))
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**vision))


def save(folder: Path, kind: str, whole: bool = False, **options: Any) -> Any:
    network = network_of(kind, whole).eval()
    network.save_pretrained(folder, **options)
    processor_of(kind).save_pretrained(folder)
    return network.vision_model if whole else network


@pytest.fixture
def context(tmp_path: Path) -> ModelsContext:
    return ModelsContext(tmp_path)


@pytest.fixture
def pixels() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(2)
    return (rng.random((2, 90, 130, 3)) ** 2 * 255).astype(np.uint8)


def as_image(pixels: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(pixels / np.float32(255))


@torch.no_grad()
def theirs(network: Any, kind: str, pixels: np.ndarray[Any, Any]) -> Any:
    prepared = processor_of(kind)([Image.fromarray(picture) for picture in pixels], return_tensors="pt")
    return network(**prepared, output_hidden_states=True)


def close(ours: Tensor, reference: Tensor) -> None:
    assert ours.shape == reference.shape
    assert float((ours - reference).abs().max() / reference.abs().max()) < 1e-4


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("whole", [False, True])
def test_both_forms_equal_transformers(
    context: ModelsContext, pixels: np.ndarray[Any, Any], kind: str, whole: bool
) -> None:
    network = save(context.models_dir / "tower", kind, whole)
    out = theirs(network, kind, pixels)
    tower = load_vision_tower(context, "tower")
    patches = encode_image(context, as_image(pixels), tower)
    first = 1 if kind == "clip" else 0  # the class token
    close(patches["tensor"], out.hidden_states[-2][:, first:])
    assert (patches["form"], patches["modality"], patches["scaled"]) == ("patch", "image", False)
    assert patches["tensor"].shape == (2, PATCHES[kind], 32)
    last = load_vision_tower(context, "tower", layer=-1)
    close(encode_image(context, as_image(pixels), last)["tensor"], out.last_hidden_state[:, first:])
    close(encode_image(context, as_image(pixels), tower, "global")["tensor"], out.pooler_output[:, None])
    pooled = load_vision_tower(context, "tower", form="global")
    assert encode_image(context, as_image(pixels), pooled)["form"] == "global"


def test_a_sharded_folder(context: ModelsContext, pixels: np.ndarray[Any, Any]) -> None:
    network = save(context.models_dir / "tower", "clip", max_shard_size="20KB")
    assert not (context.models_dir / "tower" / "model.safetensors").exists()
    tower = load_vision_tower(context, "tower", layer=-1)
    assert len(tower.files) > 1
    close(
        encode_image(context, as_image(pixels), tower)["tensor"],
        theirs(network, "clip", pixels).last_hidden_state[:, 1:],
    )


def test_sizes_mean_and_deviation_come_from_the_folder(context: ModelsContext, pixels: np.ndarray[Any, Any]) -> None:
    network = save(context.models_dir / "tower", "siglip")
    path = context.models_dir / "tower" / "preprocessor_config.json"
    other = {**json.loads(path.read_text()), "image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]}
    path.write_text(json.dumps(other))
    prepared = transformers.SiglipImageProcessorPil.from_pretrained(path.parent)(
        [Image.fromarray(picture) for picture in pixels], return_tensors="pt"
    )
    with torch.no_grad():
        expected = network(**prepared).last_hidden_state
    ours = encode_image(context, as_image(pixels), load_vision_tower(context, "tower", layer=-1))["tensor"]
    close(ours, expected)
    assert not torch.allclose(ours, theirs(network, "siglip", pixels).last_hidden_state, atol=1e-3)


def test_a_video_is_the_mean_of_its_frames_or_of_each_clip(context: ModelsContext) -> None:
    network = save(context.models_dir / "tower", "clip")
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 256, (80, 60, 60, 3), dtype=np.uint8)  # 10 s at 8 frames per second
    video = {"frames": as_image(frames), "fps": 8.0, "audio": None}
    tower = load_vision_tower(context, "tower", layer=-1)
    shown = [0, 15, 13, 28, 26, 41, 39, 54, 52, 67]  # first and last of each clip of 2 s
    rows = theirs(network, "clip", frames[shown]).last_hidden_state[:, 1:]
    close(encode_video(context, video, tower)["tensor"], rows.mean(dim=0)[None])
    kept = encode_video(context, video, tower, clips="in order")
    close(kept["tensor"], rows.reshape(5, 2, *rows.shape[1:]).mean(dim=1).flatten(0, 1)[None])
    backwards = {**video, "frames": video["frames"].flip(0)}
    assert not torch.allclose(kept["tensor"], encode_video(context, backwards, tower, clips="in order")["tensor"])


def test_a_strip_of_any_length_fits(context: ModelsContext) -> None:
    save(context.models_dir / "tower", "clip")
    tower = load_vision_tower(context, "tower")
    assert encode_image(context, torch.rand(1, 2, 9000, 1), tower)["tensor"].shape == (1, PATCHES["clip"], 32)


def test_a_tower_only_sees(context: ModelsContext) -> None:
    save(context.models_dir / "tower", "clip")
    tower = load_vision_tower(context, "tower")
    sound = {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 16_000}
    for encode, value in ((encode_audio, sound), (encode_text, "hello"), (encode_depth, torch.rand(1, 8, 8, 1))):
        with pytest.raises(NodeError, match="it has the trunks vision, not") as caught:
            encode(context, value, tower)  # type: ignore[operator]
        assert (caught.value.problem.code, caught.value.problem.port) == ("no_trunk", "encoder")


def test_a_projector_of_another_width_says_both_widths(context: ModelsContext) -> None:
    from nodes.nextgpt.load import load_input_projector

    save(context.models_dir / "tower", "clip")
    embedding = encode_image(context, torch.rand(1, 60, 60, 3), load_vision_tower(context, "tower"))
    embedding["tensor"] = embedding["tensor"][..., :20]
    with pytest.raises(NodeError, match="20 wide, the input projector takes 32") as caught:
        project_in(context, embedding, load_input_projector(context, "tiny"))
    assert "nextgpt.load_input_projector_file" in caught.value.problem.remedy


@pytest.mark.parametrize(
    ("damage", "code", "word"),
    [
        ("no config", "model_missing", "config.json"),
        ("no processor", "model_missing", "preprocessor_config.json"),
        ("no weights", "model_missing", "model.safetensors"),
        ("another model", "bad_tower", "'bert'"),
        ("no JSON", "model_damaged", "config.json"),
        ("a list", "model_damaged", "no JSON object"),
        ("layer", "bad_tower", "3 layers"),
        ("size", "bad_tower", "60 x 60 pixels, the tower takes 56 x 56"),
        ("index outside", "path_outside", "../other.safetensors"),
        ("outside", "path_outside", "../tower"),
        ("unnamed", "path_outside", "no place"),
    ],
)
def test_a_folder_that_is_no_tower_is_refused(context: ModelsContext, damage: str, code: str, word: str) -> None:
    folder = context.models_dir / "tower"
    save(folder, "clip")
    name, layer = "tower", -2
    match damage:
        case "no config":
            (folder / "config.json").unlink()
        case "no processor":
            (folder / "preprocessor_config.json").unlink()
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "another model":
            (folder / "config.json").write_text('{"model_type": "bert"}')
        case "no JSON":
            (folder / "config.json").write_text("{")
        case "a list":
            (folder / "config.json").write_text("[]")
        case "layer":
            layer = -4
        case "size":
            transformers.CLIPImageProcessorPil(
                size={"shortest_edge": 60}, crop_size={"height": 60, "width": 60}
            ).save_pretrained(folder)
        case "index outside":
            index = {"weight_map": {"a": "../other.safetensors"}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        case "outside":
            name = "../tower"
        case "unnamed":
            name = ""
    with pytest.raises((ModelError, NodeError)) as caught:
        load_vision_tower(context, name, layer=layer)
    assert caught.value.problem.code == code
    assert word in caught.value.message
    assert caught.value.problem.remedy


def test_weights_of_another_tower_are_refused(context: ModelsContext) -> None:
    folder = context.models_dir / "tower"
    save(folder, "clip")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 64}))
    with pytest.raises(ModelError, match="another shape"):
        encode_image(context, torch.rand(1, 60, 60, 3), load_vision_tower(context, "tower"))


CLIP_L = {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
CLIP_L |= {
    "num_attention_heads": 16,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
    "do_sample": False,
    "max_length": 20,
}
SO400M = {"hidden_size": 1152, "image_size": 384, "intermediate_size": 4304, "num_hidden_layers": 27}
SO400M |= {"model_type": "siglip_vision_model", "num_attention_heads": 16, "patch_size": 14}


@pytest.mark.parametrize(
    ("config", "processor", "parameters", "shape"),
    [
        # Sizes as plain numbers and generation options in the config: what the first published folders have.
        (
            {"model_type": "clip", "vision_config": CLIP_L},
            {"crop_size": 224, "size": 224, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"},
            303_179_776,
            (1, 3, 224, 224),
        ),
        (
            {"model_type": "siglip", "vision_config": SO400M},
            {"size": {"height": 384, "width": 384}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3},
            428_225_600,
            (1, 3, 384, 384),
        ),
    ],
)
def test_published_towers_have_their_size(
    config: dict[str, Any], processor: dict[str, Any], parameters: int, shape: tuple[int, ...]
) -> None:
    sizes = TowerConfig.of_folder(config, processor)
    assert TowerConfig.from_dict(json.loads(json.dumps(sizes.to_dict()))) == sizes
    with torch.device("meta"):
        tower = VisionTower(sizes)
    assert sum(parameter.numel() for parameter in tower.parameters()) == parameters
    assert preprocess("image", torch.rand(1, 30, 50, 3), sizes).shape == shape
