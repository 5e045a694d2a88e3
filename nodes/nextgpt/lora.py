"""Adapters (LoRA) on a language model: beside its weights, which other users of the model go on sharing, or folded in.

Applied adapters stand in the extras of a LANGUAGE_MODEL, each as the spec of its own weights, so that model and adapter
are loaded, counted and dropped one by one. Folded ones are part of the configuration: the result is a model of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from graph_engine import LanguageModel, NodeContext, NodeError, Widget, node
from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.nextgpt.families import LANGUAGE_MODEL, LORA
from nodes.nextgpt.load import lease
from nodes.nextgpt.model_folder import folder_in, read_json
from nodes.nextgpt.refusal import refusals

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def _reads(literals: Mapping[str, Any]) -> list[str]:
    folder = str(literals.get("folder", ""))
    return [f"{folder}/{CONFIG}", f"{folder}/{WEIGHTS}"] if folder else []


@node(id="nextgpt.apply_lora", title="Apply a LoRA", category="NExT-GPT/load", reads=_reads)
def apply_lora(
    context: NodeContext,
    model: LanguageModel,
    folder: str,
    strength: Annotated[float, Widget(min=-4, max=4, step=0.05)] = 1.0,
    mode: Literal["applied", "folded"] = "applied",
) -> LanguageModel:
    """A language model with an adapter that peft trained (LoRA). Several in a row add up.

    folder: under the models folder, with adapter_config.json and adapter_model.safetensors. strength: 0 is the model
    itself, 1 the adapter as trained. mode: `applied` keeps the adapter beside the weights, which are shared with other
    users of the model; `folded` adds it into weights of its own: more memory, faster words. Files are never changed.
    """
    from nodes.nextgpt.model.language import LanguageConfig
    from nodes.nextgpt.model.lora import FILE_PREFIX, check, settings_of

    if not isinstance(model, ModelSpec) or model.family != LANGUAGE_MODEL:
        raise NodeError(
            "a LoRA for a language model needs a language model of this pack.",
            remedy="Link nextgpt.load_language_model or nextgpt.load_causal_lm.",
            code="wrong_model",
            port="model",
        )
    place = folder_in(context.models_dir, folder)
    with refusals("lora_mismatch", "folder"):
        settings = settings_of(read_json(place / CONFIG))
        shapes = {key.removeprefix(FILE_PREFIX): shape for key, shape in _shapes(place / WEIGHTS).items()}
        config = LanguageConfig.from_json(model.config)
        check(config, settings, shapes)
    if strength == 0:
        return model
    file = WeightFile.of((place / WEIGHTS).resolve())
    if mode == "applied":
        spec = ModelSpec(LORA, {"shapes": shapes, "settings": settings}, (file,), model.dtype)
        entry = {"spec": spec.to_dict(), "strength": float(strength)}
        return replace(model, extras={**model.extras, "adapters": [*model.extras.get("adapters", ()), entry]})
    if config.weights != "full":
        raise NodeError(
            f"an adapter cannot be folded into {config.weights} weights: they would be rounded twice.",
            remedy="Choose mode applied, or load the model with full weights.",
            code="lora_mismatch",
            port="mode",
        )
    entry = {"settings": settings, "file": vars(file), "strength": float(strength)}
    return replace(model, config=replace(config, folded=(*config.folded, entry)).to_json())


def speaker(context: NodeContext, spec: Any) -> Any:
    """The module of a LANGUAGE_MODEL's spec, with the adapters that are applied to it; leased until the job ends."""
    from nodes.nextgpt.model.lora import Adapter, attached

    if not isinstance(spec, ModelSpec):
        return lease(context, spec)
    base, *loras = speakers(spec)
    module = lease(context, base)
    if not loras:
        return module
    strengths = [entry["strength"] for entry in spec.extras["adapters"]]
    return attached(
        module,
        [
            Adapter(lora.config["settings"], lease(context, lora).tensors(), strength)
            for lora, strength in zip(loras, strengths, strict=True)
        ],
    )


def speakers(spec: ModelSpec) -> list[ModelSpec]:
    """The models that a LANGUAGE_MODEL's spec stands for: the model itself, and the adapters that are applied to it."""
    adapters = spec.extras.get("adapters", ())
    if not adapters:
        return [spec]
    plain = {name: fact for name, fact in spec.extras.items() if name != "adapters"}
    return [replace(spec, extras=plain), *(ModelSpec.from_dict(entry["spec"]) for entry in adapters)]


def _shapes(path: Path) -> dict[str, list[int]]:
    """Key -> shape of every tensor, from the header alone. Raises ModelError for a file that is absent or damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        old = path.with_suffix(".bin").is_file()
        raise ModelError(
            f"{path.parent} has no {WEIGHTS}" + (", only adapter_model.bin." if old else "."),
            remedy="Convert the .bin file with `anyloom convert`." if old else "Put the adapter's files there.",
            code="model_missing",
        )
    try:
        with safe_open(path, framework="pt") as handle:
            return {key: list(handle.get_slice(key).get_shape()) for key in handle.keys()}  # noqa: SIM118 - the handle is no mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}.", remedy="Fetch it again.", code="model_damaged") from error
