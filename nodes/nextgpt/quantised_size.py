"""How large a language model in 8 or 4 bits is on its device, from the headers of its files. Without torch."""

from __future__ import annotations

from pathlib import Path

from graph_engine.models.header import Header
from graph_engine.models.spec import DTYPE_BYTES, ModelSpec
from nodes.nextgpt.renaming import DELTA, language_model_state

BYTES_PER_WEIGHT = {"int8": 1.0, "int4": 0.5625}
"""int4: half a byte, and more than the scales of its blocks of 64 take."""
SCALE_BYTES = 4
"""Of a row in 8 bits."""
IN_FULL = ("embed", "embd", ".wte.", ".wpe.", "lm_head", ".experts.")
"""Tables of tokens and places, the output layer, and experts, which transformers keep in one tensor: no linear layers."""


def loaded_bytes(spec: ModelSpec) -> int:
    """Bytes of the weights once they are loaded; for full weights those of the files. Raises ModelError for files that are
    gone or damaged, and ValueError as `language_model_state`."""
    kind = spec.config.get("weights", "full")
    if kind not in BYTES_PER_WEIGHT:
        return spec.weight_bytes
    shapes: dict[str, tuple[int, ...]] = {}
    for file in spec.files:
        tensors = Header.read(Path(file.path)).tensors
        named = language_model_state({f"{file.prefix}{key}": tensor.shape for key, tensor in tensors.items()})
        shapes |= {key.removeprefix(DELTA): shape for key, shape in named.items()}
    grown = spec.config.get("grown_from"), spec.config.get("options", {}).get("vocab_size", 0)
    return sum(_bytes(key, shape, kind, DTYPE_BYTES[spec.dtype], grown) for key, shape in shapes.items())


def _bytes(key: str, shape: tuple[int, ...], kind: str, width: int, grown: tuple[int | None, int]) -> int:
    count = 1
    for size in shape:
        count *= size
    if len(shape) == 2 and key.endswith(".weight") and not any(sign in key for sign in IN_FULL):
        return int(count * BYTES_PER_WEIGHT[kind]) + SCALE_BYTES * shape[0]
    if shape and shape[0] == grown[0]:
        count = count // shape[0] * grown[1]
    return count * width
