"""Published weights in the vendors' layouts, with tiny sizes: found, renamed, folded, and refused with the reason."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graph_engine.errors import ModelError
from graph_engine.models.load import check, materialise
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.nextgpt import preset as presets
from nodes.nextgpt.checkpoint import present, specs_of
from nodes.nextgpt.locate import hub_caches, locate, snapshot, watched
from nodes.nextgpt.model.language import LanguageConfig
from nodes.nextgpt.model.output_projector import CURRENT_PREFIXES, LEGACY_PREFIXES, OutputProjectorConfig
from nodes.nextgpt.recognise import looks_like
from nodes.nextgpt.renaming import OUTPUT_PREFIXES
from nodes.nextgpt.sources import SOURCES
from tests import vendor

torch.set_num_threads(1)
TIVA, V15 = "nextgpt-7b-tiva-v0", "nextgpt-v1.5-7b"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The published presets in tiny sizes; an empty models folder; no caches but those that a test makes."""
    for name in (TIVA, V15):
        monkeypatch.setitem(presets.PRESETS, name, vendor.small_preset(name))  # type: ignore[misc]
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    models = tmp_path / "models"
    models.mkdir()
    return models


def loaded(models: Path, part: str, preset: str = TIVA) -> dict[str, torch.Tensor]:
    (spec,) = specs_of(preset, [part], models)
    module = materialise(spec, vendor.FAMILY[spec.family], "cpu")
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def refused(models: Path, part: str, preset: str = TIVA) -> ModelError:
    (spec,) = specs_of(preset, [part], models)
    with pytest.raises(ModelError) as caught:
        check(spec, vendor.FAMILY[spec.family])
    with pytest.raises(ModelError) as again:
        materialise(spec, vendor.FAMILY[spec.family], "cpu")
    assert str(again.value) == str(caught.value)
    return caught.value


# --- the vendors' layouts ---------------------------------------------------------------------------------------------


def test_the_whole_2023_preset_loads_bit_for_bit(small: Path) -> None:
    vendor.everything(small)
    assert same(loaded(small, "encoder"), vendor.state("nextgpt.encoder", vendor.config_of("encoder")))
    assert same(
        loaded(small, "input_projector"), vendor.state("nextgpt.input_projector", vendor.config_of("input_projector"))
    )
    for modality in ("image", "video", "audio"):
        for part, seed in (("projector", 3), ("decoder", 5)):
            name = f"{modality}_{part}"
            family = presets.PRESETS[TIVA].parts[name].family
            assert same(loaded(small, name), vendor.state(family, vendor.config_of(name), seed)), name


@pytest.mark.parametrize("peft", [True, False])
def test_base_and_delta_become_one_language_model(small: Path, peft: bool) -> None:
    base, delta = vendor.base_language(), vendor.legacy_delta(peft=peft)
    vendor.shards(small / "ckpt/pretrained_ckpt/vicuna_ckpt/7b_v0", base)
    vendor.save(small / "ckpt/delta_ckpt/nextgpt/7b_tiva_v0/pytorch_model.safetensors", delta)
    found = loaded(small, "language_model")
    wrap = "llama_model.base_model.model." if peft else "llama_model."
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        assert found[f"causal.{key}"].shape == (vendor.GROWN, 64)
        assert torch.equal(found[f"causal.{key}"], delta[f"{wrap}{key}"])
    for layer in range(2):
        for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"):
            place = f"model.layers.{layer}.{name}"
            expected = base[f"{place}.weight"]
            if peft and name.startswith("self_attn"):
                a, b = (delta[f"{wrap}{place}.lora_{side}.default.weight"] for side in "AB")
                expected = expected + b @ a  # alpha / r = 1
                assert not torch.equal(expected, base[f"{place}.weight"])
            assert torch.equal(found[f"causal.{place}.weight"], expected)


def test_the_2024_layout_with_its_stray_entries(small: Path) -> None:
    """.bin files of projectors also hold embeddings; the adapter and what was trained beside it lie in two files."""
    embeddings = {key: torch.randn(vendor.GROWN, 64) for key in ("model.embed_tokens.weight", "lm_head.weight")}
    projector = vendor.state("nextgpt.input_projector", vendor.config_of("input_projector"))
    video = vendor.state("nextgpt.output_projector.video", vendor.config_of("video_projector"), 4)
    audio = vendor.state("nextgpt.output_projector.audio", vendor.config_of("audio_projector"), 4)
    folder = small / "checkpoints"
    vendor.save(
        folder / "pretrain_enc_1/mm_input_projector.safetensors",
        {**{f"model.mm_input_projector.{key}": value for key, value in projector.items()}, **embeddings},
    )
    outputs = {f"model.mm_output_vid_projector.{key}": value for key, value in video.items()}
    outputs |= {f"model.mm_output_aud_projector.{key}": value for key, value in audio.items()}
    vendor.save(folder / "pretrain_dec_1/mm_output_projector.safetensors", {**outputs, **embeddings})
    assert same(loaded(small, "input_projector", V15), projector)
    assert same(loaded(small, "video_projector", V15), video)
    assert same(loaded(small, "audio_projector", V15), audio)
    vendor.shards(small / "vicuna-7b-v1.5", vendor.base_language())
    assert torch.equal(loaded(small, "language_model", V15)["causal.lm_head.weight"], embeddings["lm_head.weight"])

    place = "base_model.model.model.layers.1.mlp.gate_proj"
    a, b = torch.randn(16, 64), torch.randn(128, 16)
    vendor.save(
        folder / "finetune_1/adapter_model.safetensors", {f"{place}.lora_A.weight": a, f"{place}.lora_B.weight": b}
    )
    (folder / "finetune_1/adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 32}))
    trained = {f"base_model.model.model.mm_input_projector.{key}": value + 1 for key, value in projector.items()}
    trained |= {f"base_model.model.{key}": value + 1 for key, value in embeddings.items()}
    vendor.save(folder / "finetune_1/non_lora_trainables.safetensors", trained)
    found = loaded(small, "language_model", V15)
    assert torch.equal(found["causal.lm_head.weight"], embeddings["lm_head.weight"] + 1)
    weight = vendor.base_language()["model.layers.1.mlp.gate_proj.weight"]
    assert torch.equal(found["causal.model.layers.1.mlp.gate_proj.weight"], weight + (b @ a) * 2.0)
    assert same(loaded(small, "input_projector", V15), {key: value + 1 for key, value in projector.items()})

    (folder / "finetune_1/adapter_config.json").write_text(json.dumps({"r": 8, "lora_alpha": 32}))
    assert "LoRA is of rank 16, this model's of rank 8" in str(refused(small, "language_model", V15))
    (folder / "finetune_1/adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 32, "use_dora": True}))
    with pytest.raises(ModelError, match="use_dora"):
        specs_of(V15, ["language_model"], small)


def test_our_own_file_comes_first(small: Path) -> None:
    vendor.everything(small)
    own = vendor.state("nextgpt.input_projector", vendor.config_of("input_projector"), 99)
    vendor.save(small / TIVA / "input_projector.safetensors", own)
    assert same(loaded(small, "input_projector"), own)


def test_a_hugging_face_cache_is_read_at_the_revision_of_main(small: Path, tmp_path: Path, monkeypatch: Any) -> None:
    family = "nextgpt.image_decoder"
    old, new = (vendor.state(family, vendor.config_of("image_decoder"), seed) for seed in (1, 2))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    repo = tmp_path / "hf/hub/models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    vendor.decoder(repo / "snapshots/aaa", old)
    assert same(loaded(small, "image_decoder"), old)  # the only one there is
    vendor.decoder(repo / "snapshots/bbb", new)
    assert not locate(presets.PRESETS[TIVA], "image_decoder", small).present  # which of the two?
    (repo / "refs").mkdir()
    (repo / "refs/main").write_text("bbb")
    assert same(loaded(small, "image_decoder"), new)
    (repo / "refs/main").write_text("../../../../etc")
    assert snapshot(tmp_path / "hf/hub", "stable-diffusion-v1-5/stable-diffusion-v1-5") is None
    # A folder of the models folder is nearer than a cache, and a cache may lie in it.
    vendor.decoder(small / "models--runwayml--stable-diffusion-v1-5/snapshots/ccc", old)
    assert same(loaded(small, "image_decoder"), old)


def test_where_the_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "/one")
    monkeypatch.setenv("HF_HOME", "/two")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    assert hub_caches() == [Path("/one"), Path("/two/hub"), tmp_path / ".cache/huggingface/hub"]


@pytest.mark.parametrize("spoilt", ["shard", "index", "path"])
def test_an_incomplete_folder_of_shards_is_not_taken_for_a_model(small: Path, spoilt: str) -> None:
    vendor.everything(small)
    folder = small / "vicuna-7b-v0"
    index = folder / "model.safetensors.index.json"
    if spoilt == "shard":
        (folder / "model-00002-of-00002.safetensors").unlink()
    else:
        index.write_text("{}" if spoilt == "index" else json.dumps({"weight_map": {"a": "../encoder.safetensors"}}))
    with pytest.raises(ModelError) as caught:
        specs_of(TIVA, ["language_model"], small)
    assert caught.value.problem.code == "model_missing"
    told = "lacks model-00002-of-00002.safetensors" if spoilt == "shard" else "is no index of weight files"
    assert told in caught.value.message


def test_a_file_in_two_shards_is_refused(small: Path) -> None:
    vendor.everything(small)
    vendor.save(small / "vicuna-7b-v0/model-00002-of-00002.safetensors", vendor.base_language())
    assert "more than one of these files holds" in str(refused(small, "language_model"))


def test_every_published_part_is_in_the_table() -> None:
    for name in (TIVA, V15):
        assert set(presets.PRESETS[name].parts) <= set(SOURCES[name])
        for row in SOURCES[name].values():
            assert row.licence and row.fetch and row.bytes > 0
            assert all(piece.homes and piece.raw_names for way in row.ways for piece in way)
    assert {name: (LEGACY_PREFIXES[name], CURRENT_PREFIXES[name]) for name in LEGACY_PREFIXES} == OUTPUT_PREFIXES


# --- replaced files are other work ------------------------------------------------------------------------------------


def test_whatever_file_is_replaced_the_key_changes(small: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from graph_engine.graph.document import parse
    from graph_engine.graph.graph import resolve
    from graph_engine.graph.plan import make_plan
    from graph_engine.graph.registry import Registry
    from graph_engine.planner import Planner
    from graph_engine.settings import Settings
    from nodes.nextgpt.load import load_decoder

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    registry = Registry([load_decoder.node_type])  # type: ignore[attr-defined]
    planner = Planner(Settings(data_dir=tmp_path, models_dir=small), registry, lambda file: "")
    node = {"type": "nextgpt.load_decoder", "values": {"preset": TIVA}}
    document = {"format": "anyloom", "version": 1, "nodes": {"d": node}}

    def key() -> str:
        return make_plan(resolve(parse(document), registry), planner.stamp).steps[0].key

    seen = [key()]
    hub = "hf/hub/models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    for place in (
        "models/nextgpt-7b-tiva-v0/image_decoder.safetensors",
        "models/stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors",
        "models/stable-diffusion-v1-5/vae/diffusion_pytorch_model.fp16.safetensors",
        "models/vicuna-7b-v0/model-00001-of-00002.safetensors",
        "models/checkpoints/../vicuna-7b-v0/model.safetensors.index.json",
        f"{hub}/snapshots/abc/unet/diffusion_pytorch_model.safetensors",
        f"{hub}/refs/main",
    ):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        for content in (b"one", b"and two"):
            path.write_bytes(content)
            seen.append(key())
        os.utime(path, ns=(1, 1))
        seen.append(key())
    assert len(set(seen)) == len(seen)
    assert key() == seen[-1]
    assert watched("tiny") == watched("no such preset") == []


def test_present_keeps_prefixes_and_sees_new_content(small: Path) -> None:
    vendor.everything(small)
    (spec,) = specs_of(TIVA, ["image_decoder"], small)
    assert [file.prefix for file in spec.files] == ["unet.", "vae."]
    again = present(ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))), small)
    assert again == spec and again.key == spec.key
    os.utime(spec.files[1].path, ns=(5, 5))
    changed = present(spec, small)
    assert changed.key != spec.key and changed.files[0] == spec.files[0]
    Path(spec.files[0].path).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        present(spec, small)


def test_specs_of_older_caches_are_read_and_keep_their_keys() -> None:
    entry = {
        "family": "f",
        "config": {},
        "files": [{"path": "/a", "bytes": 5, "stamp": "s"}],
        "dtype": "float32",
        "extras": {},
    }
    spec = ModelSpec.from_dict(entry)
    assert spec.to_dict() == entry
    text = json.dumps(["f", {}, ["s"], "float32", {}], sort_keys=True)  # as it was before files had prefixes
    assert spec.key == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    assert replace(spec, files=(WeightFile("/a", 5, "s", "vae."),)).key != spec.key


# --- refusals ---------------------------------------------------------------------------------------------------------


def hollow_spec(path: Path, family: str, config: Mapping[str, Any], wanted: Mapping[str, Any]) -> ModelSpec:
    """A spec that wants `wanted`, with a file of the shape of `config`."""
    vendor.hollow(path, vendor.outline(family, config))
    return ModelSpec(family, wanted, (WeightFile.of(path),))


def complaint(spec: ModelSpec) -> str:
    with pytest.raises(ModelError) as caught:
        check(spec, vendor.FAMILY[spec.family])
    assert caught.value.problem.code == "model_mismatch"
    return str(caught.value)


@pytest.mark.parametrize(
    ("have", "want", "said", "remedy"),
    [
        (32_000, 32_038, "a plain Vicuna or Llama, without NExT-GPT's signal tokens", "Add what NExT-GPT trained"),
        (32_042, 32_038, "a base whose tokenizer has 32,004 tokens, which is not Vicuna v0", "Take the base model"),
        (32_036, 32_038, "NExT-GPT's 2024 code on Vicuna v1.5", "belongs to the other preset"),
        (32_038, 32_036, "NExT-GPT's 2023 weights on Vicuna v0", "belongs to the other preset"),
    ],
)
def test_the_vocabulary_of_another_base(tmp_path: Path, have: int, want: int, said: str, remedy: str) -> None:
    configs = [LanguageConfig.tiny(8, size, 1).to_json() for size in (have, want)]
    text = complaint(hollow_spec(tmp_path / "m.safetensors", "nextgpt.language_model", *configs))
    assert f"the preset has {want:,} tokens" in text and f"the files have {have:,} (" in text
    assert said in text
    assert remedy in text


def test_a_projector_for_another_decoder(tmp_path: Path) -> None:
    small, large = (OutputProjectorConfig.tiny(out_dim=width).to_dict() for width in (768, 1024))
    text = complaint(hollow_spec(tmp_path / "p.safetensors", "nextgpt.output_projector.image", small, large))
    assert "conditions of width 768 (for Stable Diffusion 1.5)" in text
    assert "takes 1024 (Stable Diffusion 2 or Zeroscope)" in text


def test_a_trunk_reads_no_more_than_itself(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors

    from nodes.nextgpt.families import trunk_family

    vendor.everything(small)
    (spec,) = specs_of(TIVA, ["encoder"], small)
    one = replace(spec, family=trunk_family("audio"), config={**spec.config, "modalities": ["audio"]})
    opened, asked = safetensors.safe_open, []

    class Watched:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.file = opened(*args, **kwargs)

        def __enter__(self) -> Watched:
            self.handle = self.file.__enter__()
            return self

        def __exit__(self, *error: Any) -> None:
            self.file.__exit__(*error)

        def keys(self) -> list[str]:
            return list(self.handle.keys())

        def get_tensor(self, key: str) -> torch.Tensor:
            asked.append(key)
            return self.handle.get_tensor(key)

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    module = materialise(one, vendor.FAMILY[one.family], "cpu")
    assert sorted(asked) == sorted(module.state_dict())
    assert all(".audio." in key for key in asked)
    materialise(spec, vendor.FAMILY[spec.family], "cpu")
    assert any(".vision." in key for key in asked), "the whole encoder reads all trunks"


def test_a_missing_trunk(small: Path) -> None:
    from nodes.nextgpt.families import trunk_family

    vendor.everything(small)
    path = small / "imagebind_huge/imagebind_huge.safetensors"
    whole = vendor.state("nextgpt.encoder", vendor.config_of("encoder"))
    vendor.save(path, {key: value for key, value in whole.items() if ".thermal." not in key})
    assert "no trunk thermal; it has audio, depth, imu, text, vision" in str(refused(small, "encoder"))
    (spec,) = specs_of(TIVA, ["encoder"], small)
    for trunk, there in (("thermal", False), ("audio", True)):
        one = replace(spec, family=trunk_family(trunk), config={**spec.config, "modalities": [trunk]})
        if there:
            materialise(one, vendor.FAMILY[one.family], "cpu")
        else:
            assert "no trunk thermal" in complaint(one)


def test_a_wrong_file_in_a_slot_is_called_by_its_name(small: Path) -> None:
    vendor.everything(small)
    folder = small / "stable-diffusion-v1-5"
    vae = (folder / "vae/diffusion_pytorch_model.safetensors").read_bytes()
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(vae)
    assert "looks like a Stable Diffusion autoencoder (an SD VAE)" in str(refused(small, "image_decoder"))
    (small / TIVA / "input_projector.safetensors").write_bytes(vae)
    assert "input_projector.safetensors looks like a Stable Diffusion autoencoder" in str(
        refused(small, "input_projector")
    )
    path = small / "imagebind_huge/imagebind_huge.safetensors"
    vendor.save(path, vendor.legacy_delta())
    assert "looks like NExT-GPT's 2023 delta" in str(refused(small, "encoder"))


def test_what_files_look_like(small: Path) -> None:
    vendor.everything(small)
    state = vendor.state
    looks = {
        "ImageBind with the trunks audio, depth, imu, text, thermal, vision":
            state("nextgpt.encoder", vendor.config_of("encoder")),
        "a language model of 1,947 tokens, width 64, 2 layers": vendor.base_language(),
        "a LoRA adapter of rank 16": {"x.lora_A.weight": torch.zeros(16, 4)},
        "one linear layer from 32 to 64": state("nextgpt.input_projector", vendor.config_of("input_projector")),
        "an output projector with 77 queries": state("nextgpt.output_projector.image", vendor.config_of("image_projector")),
        "a single-file Stable Diffusion checkpoint": {"model.diffusion_model.x": torch.zeros(1)},
        "": {"anything": torch.zeros(1)},
    }  # fmt: skip
    for modality, unet, vae in (
        ("image", "an image denoiser (UNet) for conditions of width 768 (Stable Diffusion 1.5)", "an SD VAE"),
        ("video", "a video denoiser (UNet)", "an SD VAE"),
        ("audio", "an AudioLDM denoiser (UNet)", "an AudioLDM autoencoder"),
    ):
        tensors = state(f"nextgpt.{modality}_decoder", vendor.config_of(f"{modality}_decoder"))
        looks[unet] = vendor.beneath(tensors, "unet.")
        assert vae in looks_like(vendor.beneath(tensors, "vae."))
    looks["a HiFi-GAN vocoder"] = vendor.beneath(tensors, "vocoder.")
    for text, held in looks.items():
        assert looks_like(held) == text


def test_a_key_that_nobody_knows_is_reported(small: Path) -> None:
    vendor.everything(small)
    vendor.save(
        small / TIVA / "pytorch_model.safetensors", {**vendor.legacy_delta(), "surprise.weight": torch.zeros(2)}
    )
    for part in ("input_projector", "image_projector", "language_model"):
        assert "1 keys have no place" in str(refused(small, part))
        assert "surprise.weight" in str(refused(small, part))


def test_a_file_that_is_cut_off_says_how_long_it_should_be(small: Path) -> None:
    vendor.everything(small)
    path = small / "imagebind_huge/imagebind_huge.safetensors"
    (spec,) = specs_of(TIVA, ["encoder"], small)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 1000)
    with pytest.raises(ModelError) as caught:
        materialise(spec, vendor.FAMILY[spec.family], "cpu")
    assert caught.value.problem.code == "model_damaged"
    assert f"its header promises {size:,} bytes, it has {size - 1000:,}" in caught.value.message
    with pytest.raises(ModelError, match="cut off"):
        specs_of(TIVA, ["encoder"], small)


def test_a_lora_without_its_alpha_or_of_another_rank(small: Path) -> None:
    vendor.everything(small)
    vendor.save(small / TIVA / "pytorch_model.safetensors", vendor.legacy_delta(rank=8))
    assert "LoRA is of rank 8, this model's of rank 32" in str(refused(small, "language_model"))
    (spec,) = specs_of(TIVA, ["language_model"], small)
    assert "nothing says its alpha" in complaint(replace(spec, extras={}))
