"""The model families of NExT-GPT, for `graph_engine.models`: how to build each, and how published files name things.

torch, diffusers and transformers load when a module is built. Each ImageBind trunk is a family too, so that a workflow
which only hears does not hold the 630 million parameters that see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from graph_engine.models.catalog import Family
from nodes.nextgpt.graphs import GRAPHS
from nodes.nextgpt.kernels import layout
from nodes.nextgpt.modality import SPOKEN, TRUNKS, Modality
from nodes.nextgpt.quantised_size import loaded_bytes
from nodes.nextgpt.recognise import explain
from nodes.nextgpt.refusal import model_refusals
from nodes.nextgpt.renaming import (
    decoder_state,
    fold_language_model,
    input_projector_state,
    language_model_state,
    output_projector_state,
)

ENCODER = "nextgpt.encoder"
VISION_TOWER = "nextgpt.vision_tower"
INPUT_PROJECTOR = "nextgpt.input_projector"
LANGUAGE_MODEL = "nextgpt.language_model"
LORA = "nextgpt.lora"
TEXT_ENCODER = "nextgpt.text_encoder"
"""Two families: `.clip` and `.clap`."""


def trunk_family(trunk: str) -> str:
    """The family of an encoder with this trunk alone."""
    return f"{ENCODER}.{trunk}"


def _encoder(config: Mapping[str, Any]) -> Any:
    from nodes.nextgpt.model.imagebind import ImageBind
    from nodes.nextgpt.model.imagebind_config import ImageBindConfig

    return ImageBind(ImageBindConfig.from_dict(config))


def _encoder_state(state: Mapping[str, Any], modalities: tuple[str, ...] = TRUNKS) -> dict[str, Any]:
    from nodes.nextgpt.model.imagebind import published_state

    return published_state(state, modalities)


def _vision_tower(config: Mapping[str, Any]) -> Any:
    from nodes.nextgpt.model.vision_tower import TowerConfig, VisionTower

    return VisionTower(TowerConfig.from_dict(config))


def _vision_tower_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.nextgpt.model.vision_tower import tower_state

    return tower_state(state)


def _input_projector(config: Mapping[str, Any]) -> Any:
    from nodes.nextgpt.model.input_projector import InputProjector, InputProjectorConfig

    return InputProjector(InputProjectorConfig.from_dict(config))


def _language_model(config: Mapping[str, Any]) -> Any:
    from nodes.nextgpt.model.language import LanguageConfig, LanguageModel

    return LanguageModel(LanguageConfig.from_json(config))


def _fit_language_model(module: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.nextgpt.model.language_weights import fitted

    with model_refusals("model_mismatch"):
        return fitted(module, state)


def _reset_buffers(module: Any) -> None:
    module.reset_buffers()


def _complete(module: Any) -> None:
    with model_refusals("model_unusable"):
        module.complete()


def _lora(config: Mapping[str, Any]) -> Any:
    from nodes.nextgpt.model.lora import LoraWeights

    return LoraWeights(config["shapes"])


def _lora_state(state: Mapping[str, Any]) -> dict[str, Any]:
    from nodes.nextgpt.model.lora import LoraWeights

    return LoraWeights.state_of_file(state)


def _output_projector(config: Mapping[str, Any]) -> Any:
    from nodes.nextgpt.model.output_projector import OutputProjector, OutputProjectorConfig

    return OutputProjector(OutputProjectorConfig.from_dict(config))


def _decoder(config: Mapping[str, Any], row: Modality) -> Any:
    from nodes.nextgpt.model.diffusion_config import DiffusionConfig

    return getattr(row.implementation(), f"{row.name.capitalize()}Decoder")(DiffusionConfig.from_json(config))


def _text_encoder(config: Mapping[str, Any]) -> Any:
    from nodes.nextgpt.model.text_encoder import TextEncoder, TextEncoderConfig

    return TextEncoder(TextEncoderConfig.from_json(config))


def _text_encoder_state(state: Mapping[str, Any], kind: str) -> dict[str, Any]:
    from nodes.nextgpt.model.text_encoder import published_state

    return published_state(state, kind)


_ROWS: tuple[Family, ...] = (
    Family(ENCODER, _encoder, rename=_encoder_state),
    *(
        Family(trunk_family(name), _encoder, rename=partial(_encoder_state, modalities=(name,)), part=True)
        for name in TRUNKS
    ),
    Family(VISION_TOWER, _vision_tower, _reset_buffers, _vision_tower_state),
    Family(INPUT_PROJECTOR, _input_projector, rename=input_projector_state),
    Family(
        LANGUAGE_MODEL,
        _language_model,
        _complete,
        language_model_state,
        _fit_language_model,
        fold=fold_language_model,
        whole=lambda spec: spec.config.get("weights", "full") != "full",
        loaded_bytes=loaded_bytes,
    ),
    Family(LORA, _lora, rename=_lora_state),
    *(
        Family(row.projector, _output_projector, rename=partial(output_projector_state, modality=row.name))
        for row in SPOKEN.values()
    ),
    *(
        Family(row.decoder, partial(_decoder, row=row), rename=decoder_state, layout=layout, beside=GRAPHS)
        for row in SPOKEN.values()
    ),
    *(
        Family(f"{TEXT_ENCODER}.{kind}", _text_encoder, _reset_buffers, partial(_text_encoder_state, kind=kind))
        for kind in ("clip", "clap")
    ),
)

FAMILIES: tuple[Family, ...] = tuple(replace(family, explain=family.explain or explain) for family in _ROWS)
