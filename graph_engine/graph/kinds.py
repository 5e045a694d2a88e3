"""Kinds: what may travel along a link, with the shapes and conventions that every value keeps.

A kind checks values at the output that makes them, so a node never has to doubt its inputs. Names that ComfyUI has keep
its names and tensor conventions. Packs add kinds of their own: a kind is its name and a check.

Nothing here imports torch: tensors are recognised by what they offer (`shape`, `dtype`, `ndim`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from graph_engine.errors import KindError


def _accept(value: Any) -> Any:
    return value


class Kind:
    """A name, a check, and whether a literal of it can be written into a document.

    check: value -> the value in canonical form; raises KindError (or ValueError) with what is wrong.
    """

    __slots__ = ("check", "color", "description", "literal", "name", "port_name")

    def __init__(
        self,
        name: str,
        check: Callable[[Any], Any] = _accept,
        *,
        literal: bool = False,
        color: str = "#8a8a8a",
        port_name: str = "",
        description: str = "",
    ) -> None:
        self.name, self.check, self.literal, self.color = name, check, literal, color
        self.port_name = port_name or name.lower()
        self.description = description

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kind) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def accepts(self, source: Kind) -> bool:
        """May an output of kind `source` be linked to an input of this kind?"""
        return self is source or fits(self.name, source.name)


def fits(wanted: str, given: str) -> bool:
    """The same of kinds by their names, which is all that a border of a subgraph has."""
    return wanted == given or "*" in (wanted, given) or (given, wanted) in CONVERSIONS


class ModelKind(Kind):
    """A kind whose values are `ModelSpec`s: what a model is, never its weights."""

    __slots__ = ()

    def __init__(self, name: str, *, description: str = "") -> None:
        super().__init__(name, _model_spec, color="#b39ddb", description=description)


def _fail(message: str, remedy: str = "") -> KindError:
    return KindError(message, remedy=remedy)


def describe(value: Any) -> str:
    """A value in a few words, for error messages: `float32 tensor 1x64x64x3`, `str 'hello'`."""
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} tensor {'x'.join(map(str, shape)) or 'scalar'}"
    if isinstance(value, Mapping):
        return f"dict with {', '.join(map(repr, list(value)[:6]))}" if value else "empty dict"
    try:
        text = repr(value)
    except Exception as error:  # an integer of thousands of digits, or an object of a pack
        text = f"without a readable form ({type(error).__name__})"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


# --- literals ---------------------------------------------------------------------------------------------------


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _fail(f"expected text, got {describe(value)}.")


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise _fail(f"expected a whole number, got {describe(value)}.")


def _float(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise _fail(f"expected a number of ordinary size, got {describe(value)}.") from None
        if math.isfinite(number):
            return number
        raise _fail(f"expected a finite number, got {value}.")
    raise _fail(f"expected a number, got {describe(value)}.")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _fail(f"expected true or false, got {describe(value)}.")


# --- tensors ----------------------------------------------------------------------------------------------------


def _tensor(value: Any, what: str, layout: str) -> Any:
    """`layout` names the axes: "B H W C". Float32 and finite on all of them."""
    axes = layout.split()
    if not hasattr(value, "dtype") or not hasattr(value, "ndim"):
        raise _fail(f"{what} must be a tensor {layout}, got {describe(value)}.")
    if value.ndim != len(axes):
        raise _fail(f"{what} must have the {len(axes)} axes {layout}, got {describe(value)}.")
    if not str(value.dtype).endswith("float32"):
        raise _fail(f"{what} must be float32, got {describe(value)}.", "Convert it with .float().")
    if any(size == 0 for size in value.shape):
        raise _fail(f"{what} must not be empty, got {describe(value)}.")
    return value.detach() if getattr(value, "requires_grad", False) else value


def _range(value: Any, what: str, low: float, high: float) -> None:
    """All values in low..high; a margin of 1e-4 forgives rounding. NaN fails both comparisons."""
    smallest, largest = float(value.min()), float(value.max())
    if not (smallest >= low - 1e-4 and largest <= high + 1e-4):
        raise _fail(f"{what} must lie in {low:g}..{high:g}, got {smallest:.4g}..{largest:.4g}.", "Clamp or rescale it.")


def _image(value: Any) -> Any:
    value = _tensor(value, "IMAGE", "B H W C")
    if value.shape[-1] not in (1, 3, 4):
        raise _fail(f"IMAGE must have 1, 3 or 4 channels in its last axis, got {describe(value)}.")
    _range(value, "IMAGE", 0.0, 1.0)
    return value


def _mask(value: Any) -> Any:
    value = _tensor(value, "MASK", "B H W")
    _range(value, "MASK", 0.0, 1.0)
    return value


def _fields(value: Any, what: str, *names: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _fail(f"{what} must be a dict with {', '.join(names)}, got {describe(value)}.")
    missing = [name for name in names if name not in value]
    if missing:
        raise _fail(f"{what} lacks {', '.join(missing)}; it has {', '.join(map(str, value)) or 'nothing'}.")
    return value


def _audio(value: Any) -> Any:
    value = _fields(value, "AUDIO", "waveform", "sample_rate")
    waveform = _tensor(value["waveform"], "AUDIO waveform", "B C T")
    if not math.isfinite(float(waveform.sum())):
        raise _fail("AUDIO waveform must be finite, it holds NaN or infinity.")
    rate = value["sample_rate"]
    if not isinstance(rate, int) or not 1_000 <= rate <= 768_000:
        raise _fail(f"AUDIO sample_rate must be a whole number of hertz in 1,000..768,000, got {describe(rate)}.")
    return {**value, "waveform": waveform}


def _video(value: Any) -> Any:
    value = _fields(value, "VIDEO", "frames", "fps")
    frames = _tensor(value["frames"], "VIDEO frames", "F H W C")
    if frames.shape[-1] != 3:
        raise _fail(f"VIDEO frames must have 3 channels in their last axis, got {describe(frames)}.")
    _range(frames, "VIDEO frames", 0.0, 1.0)
    fps = value["fps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1000:
        raise _fail(f"VIDEO fps must be in 0..1000, got {describe(fps)}.")
    if value.get("audio") is not None:
        value = {**value, "audio": _audio(value["audio"])}
    return {**value, "frames": frames, "fps": float(fps)}


def _latent(value: Any) -> Any:
    value = _fields(value, "LATENT", "samples")
    if not hasattr(value["samples"], "ndim") or value["samples"].ndim < 3:
        raise _fail(f"LATENT samples must be a tensor of at least three axes, got {describe(value['samples'])}.")
    return value


def _conditioning(value: Any) -> Any:
    ok = isinstance(value, list | tuple) and all(
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and hasattr(entry[0], "shape")
        and isinstance(entry[1], Mapping)
        for entry in value
    )
    if not ok:
        raise _fail(f"CONDITIONING must be a list of [tensor, dict] pairs, got {describe(value)}.")
    return [[tensor, dict(extra)] for tensor, extra in value]


def _embedding(value: Any) -> Any:
    value = _fields(value, "EMBEDDING", "tensor", "modality", "form")
    _tensor(value["tensor"], "EMBEDDING tensor", "B N D")
    if value["form"] not in ("global", "patch"):
        raise _fail(f"EMBEDDING form must be 'global' or 'patch', got {describe(value['form'])}.")
    return value


def _tokens(value: Any) -> Any:
    value = _fields(value, "TOKENS", "tensor", "modality")
    _tensor(value["tensor"], "TOKENS tensor", "B M H")
    return value


def _signals(value: Any) -> Any:
    value = _fields(value, "SIGNALS", "modality", "hidden", "embeds", "order")
    _tensor(value["hidden"], "SIGNALS hidden", "N H")
    _tensor(value["embeds"], "SIGNALS embeds", "N H")
    return value


def _conversation(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise _fail(f"CONVERSATION must be a list of turns, got {describe(value)}.")
    for number, turn in enumerate(value):
        _fields(turn, f"CONVERSATION turn {number}", "role", "parts")
        for part in turn["parts"]:
            _fields(part, f"a part of CONVERSATION turn {number}", "type")
    return list(value)


def _file(value: Any) -> Any:
    return _fields(value, "FILE", "folder", "name", "media_type")


def _model_spec(value: Any) -> Any:
    if not (hasattr(value, "family") and hasattr(value, "key")):
        raise _fail(f"expected a ModelSpec, got {describe(value)}.", "Return what graph_engine.models.ModelSpec makes.")
    return value


ANY = Kind("*", literal=True, color="#dddddd", port_name="value", description="any kind")
STRING = Kind("STRING", _string, literal=True, color="#9ccc65", port_name="text", description="text")
INT = Kind("INT", _int, literal=True, color="#4dd0e1", description="whole number")
FLOAT = Kind("FLOAT", _float, literal=True, color="#4fc3f7", description="number")
BOOLEAN = Kind("BOOLEAN", _boolean, literal=True, color="#ef9a9a", description="true or false")
COMBO = Kind("COMBO", _string, literal=True, color="#aed581", description="one of a list of words")
JSON = Kind("JSON", literal=True, color="#bcaaa4", description="any JSON value")
IMAGE = Kind("IMAGE", _image, color="#64b5f6", description='pictures, float32 "B H W C" in 0..1')
MASK = Kind("MASK", _mask, color="#81c784", description='masks, float32 "B H W" in 0..1')
AUDIO = Kind("AUDIO", _audio, color="#ffb74d", description='{waveform float32 "B C T", sample_rate Hz}')
VIDEO = Kind("VIDEO", _video, color="#e57373", description='{frames float32 "F H W 3" in 0..1, fps, audio?}')
LATENT = Kind("LATENT", _latent, color="#f06292", description="{samples tensor, ...}")
CONDITIONING = Kind("CONDITIONING", _conditioning, color="#ffa931", description='list of [tensor "B N D", dict]')
EMBEDDING = Kind("EMBEDDING", _embedding, color="#ba68c8", description='{tensor "B N D", modality, form: global|patch}')
TOKENS = Kind(
    "TOKENS", _tokens, color="#9575cd", description='{tensor "B M H" in the language model\'s space, modality}'
)
SIGNALS = Kind("SIGNALS", _signals, color="#ff8a65", description='{modality, hidden "N H", embeds "N H", order}')
CONVERSATION = Kind("CONVERSATION", _conversation, color="#90a4ae", description="list of {role, parts: [{type, ...}]}")
FILE = Kind("FILE", _file, color="#a1887f", description="{folder, name, media_type, bytes} of a written file")
ENCODER = ModelKind("ENCODER", description="multimodal encoder (ImageBind)")
INPUT_PROJECTOR = ModelKind("INPUT_PROJECTOR", description="embedding space to language model space")
LANGUAGE_MODEL = ModelKind("LANGUAGE_MODEL", description="causal language model with signal tokens")
OUTPUT_PROJECTOR = ModelKind("OUTPUT_PROJECTOR", description="language model space to a decoder's condition")
DECODER = ModelKind("DECODER", description="diffusion decoder of one modality")

CONVERSIONS: frozenset[tuple[str, str]] = frozenset({("INT", "FLOAT"), ("COMBO", "STRING"), ("STRING", "COMBO")})
"""Links between different kinds that lose nothing. The reader's kind checks the value again when it arrives."""

# The annotations that node functions use. They say the kind to the engine and stay `Any` to type checkers, because
# naming torch types here would make every node file import torch.
AnyValue = Annotated[Any, ANY]
Json = Annotated[Any, JSON]
Image = Annotated[Any, IMAGE]
Mask = Annotated[Any, MASK]
Audio = Annotated[Any, AUDIO]
Video = Annotated[Any, VIDEO]
Latent = Annotated[Any, LATENT]
Conditioning = Annotated[Any, CONDITIONING]
Embedding = Annotated[Any, EMBEDDING]
Tokens = Annotated[Any, TOKENS]
Signals = Annotated[Any, SIGNALS]
Conversation = Annotated[Any, CONVERSATION]
File = Annotated[Any, FILE]
Encoder = Annotated[Any, ENCODER]
InputProjector = Annotated[Any, INPUT_PROJECTOR]
LanguageModel = Annotated[Any, LANGUAGE_MODEL]
OutputProjector = Annotated[Any, OUTPUT_PROJECTOR]
Decoder = Annotated[Any, DECODER]
