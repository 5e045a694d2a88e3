"""LoRA on a language model: adapters that peft itself wrote, beside the weights or folded into them."""

import json
import shutil
import threading
import warnings
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from graph_engine.errors import ModelError, NodeError
from graph_engine.models.load import materialise, module_bytes
from graph_engine.models.spec import ModelSpec
from nodes.nextgpt.causal_lm import load_causal_lm
from nodes.nextgpt.conversation import conversation
from nodes.nextgpt.families import FAMILIES
from nodes.nextgpt.load import load_language_model
from nodes.nextgpt.lora import apply_lora, speaker
from nodes.nextgpt.model.lora import Adapter, attached
from nodes.nextgpt.model.tokenizer import TINY_PATH
from nodes.nextgpt.reason import reason
from tests.contexts import FolderContext

torch.set_num_threads(1)

FAMILY = {family.name: family for family in FAMILIES}
IDS = torch.tensor([[5, 900, 17, 1200, 4]])
LLAMA = {
    "vocab_size": 1947,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
GPT2 = {"vocab_size": 1947, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256, "initializer_range": 0.3} | {
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LEGACY = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
"""The settings of the published 2023 weights, with a smaller rank."""


class Context(FolderContext):
    def model(self, spec):
        if spec.key not in self.models:
            self.models[spec.key] = materialise(spec, FAMILY[spec.family], "cpu")
        return self.models[spec.key]

    @property
    def models_dir(self):
        return self.root / "models"


def train(folder, model, seed=1, **settings):
    """An adapter as peft saves it after training: both of its matrices are random. Returns the model that has it."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks the model for what transformers has renamed
        adapted = get_peft_model(model, LoraConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(folder)
    return adapted


def fresh_model(kind="llama", **changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **{**(LLAMA if kind == "llama" else GPT2), **changes})
    )


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    context = Context(tmp_path_factory.mktemp("lora"))
    for kind in ("llama", "gpt2"):
        fresh_model(kind).save_pretrained(context.models_dir / kind)
        shutil.copy(TINY_PATH, context.models_dir / kind / "tokenizer.json")
    train(context.models_dir / "legacy", fresh_model(), **LEGACY)
    train(context.models_dir / "all", fresh_model(), seed=2, r=4, lora_alpha=16, target_modules="all-linear")
    train(context.models_dir / "gpt2-lora", fresh_model("gpt2"), r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    return context


@pytest.fixture(scope="module")
def base(context):
    return load_causal_lm(context, "llama", signals="")


def logits(context, spec):
    with torch.no_grad():
        return speaker(context, spec).causal(IDS).logits


@pytest.mark.parametrize("mode", ["applied", "folded"])
@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        ("llama", "legacy", LEGACY),
        ("llama", "all", {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "seed": 2}),
        ("gpt2", "gpt2-lora", {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True}),
    ],
)
def test_an_adapter_says_what_peft_says(context, tmp_path, mode, kind, name, settings):
    expected = train(tmp_path, fresh_model(kind), **settings)
    plain = load_causal_lm(context, kind, signals="")
    ours = logits(context, apply_lora(context, plain, name, mode=mode))
    with torch.no_grad():
        theirs = expected(IDS).logits
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5
    assert float((ours - logits(context, plain)).norm() / theirs.norm()) > 0.1


def test_strength_scales_the_change_and_zero_is_the_model_itself(context, base):
    assert apply_lora(context, base, "legacy", 0.0) is base
    whole = speaker(context, base)
    matrix = whole.causal.model.layers[0].self_attn.q_proj.weight
    change = (
        speaker(context, apply_lora(context, base, "legacy", mode="folded"))
        .causal.model.layers[0]
        .self_attn.q_proj.weight
        - matrix
    )
    half = speaker(context, apply_lora(context, base, "legacy", -0.5, mode="folded"))
    torch.testing.assert_close(half.causal.model.layers[0].self_attn.q_proj.weight, matrix - change / 2)


@pytest.mark.parametrize("strength", [1.0, 0.3, -2.0])
def test_applied_and_folded_agree(context, base, strength):
    applied, folded = (
        logits(context, apply_lora(context, base, "all", strength, mode)) for mode in ("applied", "folded")
    )
    assert float((applied - folded).abs().max() / folded.abs().max()) < 1e-5


def test_several_adapters_add_up_in_either_mode_and_mixed(context, base):
    def both(first, second):
        return logits(context, apply_lora(context, apply_lora(context, base, "legacy", 0.7, first), "all", 1.0, second))

    folded = both("folded", "folded")
    for modes in (("applied", "applied"), ("folded", "applied"), ("applied", "folded")):
        assert float((both(*modes) - folded).abs().max() / folded.abs().max()) < 1e-5
    assert not torch.allclose(folded, logits(context, apply_lora(context, base, "all")), rtol=0.01)


def test_an_applied_adapter_shares_the_weights_and_leaves_them_as_they_were(context, base):
    whole = context.model(base)
    before = {key: tensor.clone() for key, tensor in whole.state_dict().items()}
    files = {path: path.read_bytes() for path in (context.models_dir / "llama").iterdir()}
    undisturbed = logits(context, base)
    spec = apply_lora(context, base, "legacy")
    adapted = speaker(context, spec)
    own = {tensor.data_ptr() for tensor in whole.state_dict().values()}
    extra = {name: t for name, t in adapted.causal.named_parameters() if t.data_ptr() not in own}
    assert extra
    assert all("lora_" in name for name in extra)
    assert not any(parameter.requires_grad for parameter in adapted.parameters())
    assert not adapted.training
    apply_lora(context, base, "legacy", mode="folded")
    assert all(torch.equal(whole.state_dict()[key], tensor) for key, tensor in before.items())
    assert torch.equal(logits(context, base), undisturbed)
    assert {path: path.read_bytes() for path in files} == files
    assert len([key for key in context.models if key == base.key]) == 1


def test_a_folded_model_has_the_sizes_of_the_plain_one(context, base):
    folded = context.model(apply_lora(context, base, "all", mode="folded"))
    plain = context.model(base)
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert module_bytes(folded) == module_bytes(plain)


def test_half_precision_and_a_grown_vocabulary(context):
    spec = load_causal_lm(context, "llama", dtype="bfloat16")
    adapted = speaker(context, apply_lora(context, spec, "legacy"))
    assert {parameter.dtype for parameter in adapted.parameters()} == {torch.bfloat16}
    assert adapted.vocab_size == 1947 + 36
    folded = speaker(context, apply_lora(context, spec, "legacy", mode="folded"))
    with torch.no_grad():
        ours, theirs = adapted.causal(IDS).logits.float(), folded.causal(IDS).logits.float()
    assert float((ours - theirs).norm() / theirs.norm()) < 0.05


def test_the_nodes_answer_with_an_adapter_and_the_key_knows_it(context):
    tiny = load_language_model(context, "tiny")
    with pytest.raises(NodeError, match="64"):
        apply_lora(context, tiny, "legacy")
    spec = load_causal_lm(context, "llama")
    adapted = apply_lora(context, spec, "legacy")
    assert adapted.key != spec.key
    assert adapted.key != apply_lora(context, spec, "legacy", 0.5).key != apply_lora(context, spec, "all").key
    again = ModelSpec.from_dict(json.loads(json.dumps(adapted.to_dict())))
    assert again.key == adapted.key
    said = [
        reason(context, conversation("hello"), model, max_new_tokens=12, temperature=0)["ids"]
        for model in (spec, adapted, again)
    ]
    assert said[0] != said[1] == said[2]
    assert apply_lora.node_type.reads({"folder": "a"}) == ["a/adapter_config.json", "a/adapter_model.safetensors"]


def test_adapters_lie_beside_quantised_weights_too(context):
    pytest.importorskip("bitsandbytes")
    spec = load_causal_lm(context, "llama", weights="int8", signals="")
    whole = logits(context, apply_lora(context, load_causal_lm(context, "llama", signals=""), "legacy"))
    near = logits(context, apply_lora(context, spec, "legacy"))
    assert float((near - whole).norm() / whole.norm()) < 0.05
    with pytest.raises(NodeError, match="rounded twice"):
        apply_lora(context, spec, "legacy", mode="folded")


def test_the_shared_weights_survive_the_adapter(context, base):
    """The twin is thrown away after a job; the model of the pool must go on as before."""
    whole = context.model(base)
    twin = attached(whole, [])
    assert twin is not whole
    assert twin.causal.model.layers[0] is not whole.causal.model.layers[0]
    assert twin.causal.lm_head.weight is whole.causal.lm_head.weight


# --- refusals -------------------------------------------------------------------------------------------------------


def settings(**changes):
    def spoil(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def tensors(change):
    def spoil(folder):
        from safetensors.torch import load_file, save_file

        path = folder / "adapter_model.safetensors"
        save_file(change(load_file(path)), path)

    return spoil


def wider(folder):
    train(folder, fresh_model(hidden_size=64), **LEGACY)


def pickled(folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def cut_off(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (settings(r=16), "lora_mismatch", "has rank 8, adapter_config.json says 16"),
        (wider, "lora_mismatch", "is [8, 64], but this model needs [8, 32]"),
        (settings(target_modules=["query_key_value"]), "lora_mismatch", "query_key_value"),
        (settings(target_modules=["q_proj"]), "lora_mismatch", "have no place"),
        (settings(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]), "lora_mismatch", "are missing"),
        (settings(peft_type="IA3"), "lora_mismatch", "'IA3', not LORA"),
        (settings(modules_to_save=["lm_head"]), "lora_mismatch", "replaces whole layers (lm_head)"),
        (settings(init_lora_weights="pissa"), "lora_mismatch", "'pissa'"),
        (tensors(lambda state: {**state, "x.weight": torch.ones(1)}), "lora_mismatch", "first x.weight"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "model_missing", "no adapter_config.json"),
        (lambda folder: (folder / "adapter_config.json").write_text("["), "model_damaged", "cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "model_missing", "no adapter_model"),
        (pickled, "model_missing", "only adapter_model.bin"),
        (cut_off, "model_damaged", "is damaged"),
    ],
)
def test_an_adapter_of_something_else_is_refused(context, base, tmp_path, spoil, code, said):
    folder = context.models_dir / tmp_path.name
    shutil.copytree(context.models_dir / "legacy", folder)
    spoil(folder)
    with pytest.raises((NodeError, ModelError)) as caught:
        apply_lora(context, base, tmp_path.name)
    assert caught.value.problem.code == code
    assert said in caught.value.problem.message
    assert caught.value.problem.remedy


def test_an_adapter_for_another_family_or_no_model_is_refused(context, base):
    with pytest.raises(NodeError) as caught:
        apply_lora(context, base, "gpt2-lora")
    assert caught.value.problem.code == "lora_mismatch"
    with pytest.raises(NodeError) as caught:
        apply_lora(context, replace(base, family="nextgpt.encoder"), "legacy")
    assert caught.value.problem.code == "wrong_model"
    with pytest.raises(ModelError):
        apply_lora(context, base, "../legacy")


def test_an_adapter_without_strength_changes_nothing_bit_for_bit(context, base):
    """Also where the module is built all the same, as a chain of adapters with one of strength 0 would."""
    whole = context.model(base)
    spec = apply_lora(context, base, "legacy")
    lora = ModelSpec.from_dict(spec.extras["adapters"][0]["spec"])
    silent = attached(whole, [Adapter(lora.config["settings"], context.model(lora).tensors(), 0.0)])
    with torch.no_grad():
        assert torch.equal(silent.causal(IDS).logits, whole.causal(IDS).logits)


def test_other_threads_build_real_modules_while_an_adapter_is_looked_at(context, base):
    """peft's own way to empty layers bends torch.nn.Module for the whole process; a model loaded meanwhile was lost."""
    empty, over = [], threading.Event()

    def build():
        while not over.is_set():
            empty.append(torch.nn.Linear(2, 2).weight.is_meta)

    thread = threading.Thread(target=build)
    thread.start()
    for _ in range(4):
        speaker(context, apply_lora(context, base, "all"))
    over.set()
    thread.join()
    assert len(empty) > 100
    assert not any(empty)
