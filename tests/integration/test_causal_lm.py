"""Language models from Hugging Face folders and LoRA adapters in the real engine: shared, counted, computed anew."""

import asyncio
import shutil
import warnings

import pytest

from graph_engine import Engine, Settings
from nodes.nextgpt.model.tokenizer import TINY_PATH

pytestmark = pytest.mark.asyncio

SIZES = {
    "vocab_size": 1947,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def random_model(seed):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))


def write_model(folder, seed):
    random_model(seed).save_pretrained(folder)
    shutil.copy(TINY_PATH, folder / "tokenizer.json")


def write_adapter(folder, seed):
    import torch
    from peft import LoraConfig, get_peft_model

    model = random_model(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks the model for what transformers has renamed
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_()
    adapted.save_pretrained(folder)


def document():
    def node(type, values=None, **links):
        return {"type": type, "values": values or {}, "links": links}

    nodes = {
        "model": node("nextgpt.load_causal_lm", {"folder": "small"}),
        "lora": node("nextgpt.apply_lora", {"folder": "style"}, model="model.language_model"),
        "prompt": node("nextgpt.conversation", {"text": "hello"}),
    }
    for name, model in (("plain", "model"), ("styled", "lora")):
        nodes[name] = node(
            "nextgpt.reason",
            {"max_new_tokens": 10, "temperature": 0},
            conversation="prompt.conversation",
            model=f"{model}.language_model",
        )
        nodes[f"{name}_route"] = node("nextgpt.route", generation=f"{name}.generation")
        nodes[f"{name}_text"] = node("media.show_text", text=f"{name}_route.text")
    return {"format": "anyloom", "version": 1, "nodes": nodes}


async def said(engine):
    """(what the model says, what it says with the adapter)."""
    record = await engine.submit(document())
    record = await asyncio.wait_for(engine.wait(record.id), 60)
    assert record.status == "succeeded", record.errors
    return tuple(record.result[f"{name}_text"]["text"] for name in ("plain", "styled"))


async def test_a_folder_and_an_adapter_in_a_workflow(tmp_path):
    models_dir = tmp_path / "models"
    write_model(models_dir / "small", 0)
    write_adapter(models_dir / "style", 1)
    async with await Engine.open(Settings(data_dir=tmp_path / "data", models_dir=models_dir)) as engine:
        plain, styled = await said(engine)
        assert plain != styled
        held = sorted(entry["bytes"] for device in engine.models.stats() for entry in device["models"])
        adapter_bytes = 2 * 2 * (4 * 32 + 32 * 4) * 4
        assert len(held) == 2  # the base once, for both; the adapter beside it
        assert held[0] == adapter_bytes
        loads = engine.models.loads
        assert await said(engine) == (plain, styled)
        assert engine.models.loads == loads
        write_adapter(models_dir / "style", 2)
        again = await said(engine)
        assert again[0] == plain
        assert again[1] not in (plain, styled)
        write_model(models_dir / "small", 9)
        assert (await said(engine))[0] != plain
