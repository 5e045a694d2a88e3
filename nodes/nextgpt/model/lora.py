"""Low-rank adapters (LoRA, arXiv 2106.09685) on a language model, by peft: beside its weights, or folded into them.

An adapter is two things: its settings (the JSON of `adapter_config.json`) and its tensors, whose keys begin with the
name of the layer they belong to.
"""

import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .language import LanguageConfig, LanguageModel

FILE_PREFIX = "base_model.model."
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""How adapters begin without a change of the base; others (PiSSA, OLoRA ...) move the base and say so nowhere."""


class Adapter(NamedTuple):
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    strength: float


class LoraWeights(nn.Module):
    """The tensors of one adapter, so that they can be leased like any model; `shapes` by key."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        for key, shape in shapes.items():
            self.register_parameter(_slashed(key), nn.Parameter(torch.empty(*shape)))

    def tensors(self) -> dict[str, Tensor]:
        return {key.replace("/", "."): tensor.detach() for key, tensor in self.named_parameters()}

    @staticmethod
    def state_of_file(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Keys of a file as this module names them."""
        return {_slashed(key.removeprefix(FILE_PREFIX)): tensor for key, tensor in state.items()}


def _slashed(key: str) -> str:
    return key.replace(".", "/")  # parameters may not have dots in their names


def settings_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of an `adapter_config.json`. Raises ValueError for adapters of another kind than plain LoRA."""
    from peft import LoraConfig

    kind = data.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"the adapter is of the kind {kind!r}, not LORA; only LoRA adapters can be applied")
    if data.get("init_lora_weights", True) not in _PLAIN_STARTS:
        raise ValueError(
            f"the adapter began as {data['init_lora_weights']!r}, which changes the base model's weights; "
            "save it with peft's conversion to plain LoRA"
        )
    if data.get("modules_to_save"):
        raise ValueError(
            f"the adapter replaces whole layers ({', '.join(data['modules_to_save'])}); "
            "fold it with the tool that trained it, or load it as a checkpoint"
        )
    known = {entry.name for entry in dataclasses.fields(LoraConfig)}
    dropped = {
        "peft_type",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "init_lora_weights",
    }
    return {key: value for key, value in data.items() if key in known - dropped and value is not None}


def check(config: LanguageConfig, settings: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Raises ValueError, with the numbers, if an adapter whose tensors have these shapes does not fit the model."""
    with torch.device("meta"):
        model = LanguageModel(dataclasses.replace(config, weights="full", folded=()))
    try:
        wanted = _inject(model, settings, "probe")
    except (ValueError, TypeError) as error:
        raise ValueError(f"the adapter does not fit the model: {error}; take one made for this architecture") from error
    missing = [key for key in wanted if key not in shapes]
    strange = [key for key in shapes if key not in wanted]
    if missing or strange:
        said = [f"{len(missing)} tensors are missing (first {missing[0]})"] if missing else []
        said += [f"{len(strange)} have no place (first {strange[0]})"] if strange else []
        raise ValueError(
            f"the adapter's file and its adapter_config.json name other layers than the model has: {', '.join(said)}; "
            "take an adapter made for this model, with the settings it was trained with"
        )
    for key, shape in wanted.items():
        found = tuple(shapes[key])
        if found == shape:
            continue
        if "lora_A" in key and found[0] != shape[0]:
            raise ValueError(
                f"{key} has rank {found[0]}, adapter_config.json says {shape[0]}; "
                "put the adapter_config.json beside it that it was trained with"
            )
        raise ValueError(
            f"{key} is {list(found)}, but this model needs {list(shape)}: the adapter was made for a base model of "
            "another width; choose that one"
        )


def attached(model: LanguageModel, adapters: Sequence[Adapter]) -> LanguageModel:
    """A model that speaks with the adapters. It shares every weight of `model`, which stays as it is."""
    shared = _twin(model)
    for index, adapter in enumerate(adapters):
        _put(shared, adapter, f"adapter{index}")
    for layer in _layers(shared):
        layer.set_adapter([name for name in layer.lora_A if name in layer.scaling])
    return shared.eval().requires_grad_(False)


@torch.no_grad()
def fold(model: LanguageModel, adapter: Adapter) -> None:
    """Add an adapter to the weights of `model` itself: W + strength x scaling x BA, in W's dtype."""
    _put(model, adapter, "folded")
    for name, layer in [(n, m) for n, m in model.causal.named_modules() if _is_layer(m)]:
        layer.merge(safe_merge=True, adapter_names=["folded"])
        parent, _, leaf = name.rpartition(".")
        setattr(model.causal.get_submodule(parent), leaf, layer.get_base_layer())
    model.causal.requires_grad_(False)
    if hasattr(model.causal, "peft_config"):
        del model.causal.peft_config


def _twin(model: LanguageModel) -> LanguageModel:
    """The modules once more, the tensors by reference."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def _inject(model: LanguageModel, settings: Mapping[str, Any], name: str) -> dict[str, tuple[int, ...]]:
    """Give `model` empty adapter layers; returns the shapes of their tensors by key."""
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    config = LoraConfig(**settings, inference_mode=True)
    # Not by peft's low_cpu_mem_usage: that bends nn.Module for every thread, and models that others load just now would
    # lose their weights.
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are meant
        inject_adapter_in_model(config, model.causal, name)
    state = get_peft_model_state_dict(model.causal, adapter_name=name)
    return {key.removeprefix(FILE_PREFIX): tuple(tensor.shape) for key, tensor in state.items()}


def _put(model: LanguageModel, adapter: Adapter, name: str) -> None:
    from peft import set_peft_model_state_dict

    _inject(model, adapter.settings, name)
    state = {key.removeprefix(FILE_PREFIX): tensor.to(model.device) for key, tensor in adapter.tensors.items()}
    set_peft_model_state_dict(model.causal, state, adapter_name=name, low_cpu_mem_usage=True)
    for layer in _layers(model):
        if name in layer.scaling:
            layer.scaling[name] *= adapter.strength


def _layers(model: LanguageModel) -> list[Any]:
    return [module for module in model.causal.modules() if _is_layer(module)]


def _is_layer(module: nn.Module) -> bool:
    from peft.tuners.lora import LoraLayer

    return isinstance(module, LoraLayer)
