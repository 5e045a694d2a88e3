"""A low-rank adapter on the language model while it is trained (LoRA, arXiv 2106.09685), by peft."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.training.plan import Plan


class Adapted:
    """Puts adapter layers into a language model, in place; the base's weights stay and are frozen."""

    def __init__(self, model: Any, plan: Plan) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        self.model = model
        self.settings: dict[str, Any] = {
            "peft_type": "LORA",
            "r": plan.rank,
            "lora_alpha": plan.alpha,
            "lora_dropout": plan.dropout,
            "target_modules": plan.targets.split(","),
            "bias": "none",
        }
        self.tensors: dict[str, Tensor] = {}
        config = LoraConfig(**{key: value for key, value in self.settings.items() if key != "peft_type"})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            inject_adapter_in_model(config, model.causal, "trained")
        # peft frees the adapter and freezes the rest; dropout works in training mode only.
        model.train()

    def gather(self) -> None:
        """The adapter's tensors as an adapter file has them, before they are folded."""
        from peft import get_peft_model_state_dict

        from nodes.nextgpt.model.lora import FILE_PREFIX

        state = get_peft_model_state_dict(self.model.causal, adapter_name="trained")
        self.tensors = {
            FILE_PREFIX + key.removeprefix(FILE_PREFIX): tensor.detach().clone() for key, tensor in state.items()
        }

    @torch.no_grad()
    def fold(self) -> None:
        """W becomes W + BA alpha / r, and the adapter's layers go."""
        from peft.tuners.lora import LoraLayer

        layers = [(name, layer) for name, layer in self.model.causal.named_modules() if isinstance(layer, LoraLayer)]
        for name, layer in layers:
            layer.merge(adapter_names=["trained"])
            parent, _, leaf = name.rpartition(".")
            setattr(self.model.causal.get_submodule(parent), leaf, layer.get_base_layer())
        if hasattr(self.model.causal, "peft_config"):
            del self.model.causal.peft_config
        self.model.eval().requires_grad_(False)
