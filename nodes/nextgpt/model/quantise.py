"""Smaller weights for the linear layers of a language model, by bitsandbytes: 8 bits (LLM.int8, arXiv 2208.07339) or 4
bits (NF4 with quantised scales, arXiv 2305.14314). On a GPU and on the CPU. Embeddings and output layer stay as they
are: they decide which token is meant.
"""

import warnings
from typing import Any

import torch
from torch import nn

EXTRA = "quant"
KINDS = ("full", "int8", "int4")


@torch.no_grad()
def quantise(causal: Any, kind: str) -> None:
    """Replace every linear layer of `causal`, whose weights are in place on the host.

    They become small when `causal` is moved to its device (`.to`, also "cpu"), each on its way there: that is how the
    library does it, which leaves weights in 8 bits as they are where they lie on an accelerator already.
    Raises ValueError for an unknown kind, for a network without linear layers and where the library is missing.
    """
    if kind not in KINDS[1:]:
        raise ValueError(f"weights cannot be kept as {kind!r}; choose {', '.join(KINDS)}")
    make = _library()
    output = causal.get_output_embeddings()
    layers = [(n, m) for n, m in causal.named_modules() if type(m) is nn.Linear and m is not output]
    if not layers:
        raise ValueError(
            f"{type(causal).__name__} has no linear layers of the usual build, so {kind} would save nothing; "
            "load it with full weights"
        )
    for name, layer in layers:
        parent, _, leaf = name.rpartition(".")
        setattr(causal.get_submodule(parent), leaf, make(layer, kind))
    # What peft asks to know how it may lay adapters beside such layers.
    causal.is_loaded_in_8bit, causal.is_loaded_in_4bit = kind == "int8", kind == "int4"


def _library() -> Any:
    """(layer, kind) -> the layer that is quantised when it is moved to a device."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it compiles things at import in ways torch calls old
            import bitsandbytes
    except ImportError as error:
        raise ValueError(
            f"8-bit and 4-bit weights need the package bitsandbytes; "
            f"install the extra: pip install 'anyloom[{EXTRA}]', or load the model with full weights"
        ) from error

    def make(layer: nn.Linear, kind: str) -> nn.Module:
        sizes: dict[str, Any] = {
            "input_features": layer.in_features,
            "output_features": layer.out_features,
            "bias": layer.bias is not None,
            "device": "meta",
        }
        weight, nn8 = layer.weight, bitsandbytes.nn
        if kind == "int8":
            made = nn8.Linear8bitLt(**sizes, has_fp16_weights=False, threshold=6.0)
            made.weight = nn8.Int8Params(weight.data, requires_grad=False, has_fp16_weights=False)
        else:
            made = nn8.Linear4bit(**sizes, compute_dtype=weight.dtype, quant_type="nf4", compress_statistics=True)
            made.weight = nn8.Params4bit(weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        made.bias = layer.bias
        return made

    return make
