"""LoRA: small trained changes to a checkpoint. The base stays one in memory, however many LoRAs it is used with.

A LoRA on a wire is a line in the spec of its model: file and strength. When the model is used, the base is leased as it
is, a copy of it is made that shares every weight, and peft puts the low-rank layers into the copy.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from graph_engine import NodeContext, NodeError, Widget, node
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.diffusion import families
from nodes.diffusion.architecture import ARCHITECTURES
from nodes.diffusion.found import candidates, find
from nodes.diffusion.header import read_header
from nodes.diffusion.kinds import CLIP, Clip, Model
from nodes.diffusion.load import CATEGORY, Name
from nodes.diffusion.quiet import quiet

PLACES = ("loras",)
PREFIXES = ("text_encoder", "text_encoder_2")
SETTINGS = "lora_adapter_metadata"
"""Where diffusers keeps peft's settings in the header of a file."""
Amount = Annotated[float, Widget(min=-10, max=10, step=0.05)]


class Patched(NamedTuple):
    model: Model
    clip: Clip


def _reads(literals: Mapping[str, Any]) -> list[str]:
    return list(candidates(str(literals.get("name", "")), PLACES))


@node(id="diffusion.apply_lora", title="Apply LoRA", category=CATEGORY, reads=_reads)
def apply_lora(
    context: NodeContext,
    model: Model,
    name: Name,
    clip: Annotated[Any, CLIP] | None = None,
    strength: Amount = 1.0,
    clip_strength: Amount = 1.0,
) -> Patched:
    """A model and its text encoders changed by a LoRA; several nodes in a row add up.

    name: a .safetensors file of kohya, diffusers or peft, under the models folder or its subfolder `loras`.
    """
    from graph_engine import Skip

    path = find(name, context.models_dir, PLACES, _is_lora, "LoRA")
    read_header(path)
    file = WeightFile.of(path)
    entry = {"path": str(path), "stamp": file.stamp, "strength": strength}
    lora = lora_weights(path, model)
    encoders = [] if clip is None else zip(clip.extras["encoders"], PREFIXES, strict=False)
    draws = _check(lora, families.UNET, model, "unet", path)
    reads = [_check(lora, spec["family"], ModelSpec.from_dict(spec), prefix, path) for spec, prefix in encoders]
    if not draws and not any(reads):
        raise _foreign(path, f"it changes nothing in the denoiser{'' if clip is None else ' and the text encoders'}")
    changed = model
    if draws:
        changed = replace(model, extras={**model.extras, "loras": [*model.extras.get("loras", []), entry]})
    if clip is None:
        return Patched(changed, Skip("no CLIP was linked"))
    entry = {**entry, "strength": clip_strength, "layers_per_block": model.config.get("layers_per_block", 2)}
    return Patched(changed, replace(clip, extras={**clip.extras, "loras": [*clip.extras.get("loras", []), entry]}))


class Lora(NamedTuple):
    """state: tensors in diffusers' names; alphas: per module, of kohya's files; settings: ranks and alphas, of peft's."""

    state: dict[str, Any]
    alphas: dict[str, float] | None
    settings: dict[str, Any]

    def settings_of(self, prefix: str) -> dict[str, Any] | None:
        """Those of one model; None where the file says nothing and shapes have to do."""
        own = {key: value for key, value in self.settings.items() if key.startswith(f"{prefix}.")}
        return own or None


class _Blocks(NamedTuple):
    layers_per_block: int


def lora_weights(path: Path, model: ModelSpec) -> Lora:
    """The file in diffusers' names, whoever wrote it."""
    return _read(path, model.config.get("layers_per_block", 2))


def _read(path: Path, layers_per_block: int) -> Lora:
    from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin
    from safetensors.torch import load_file

    state = load_file(path)
    try:
        # For both SD and SDXL: block numbers of the original layout are recognised by themselves.
        named, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(state, unet_config=_Blocks(layers_per_block))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise _foreign(path, f"its keys are not understood ({error})") from error
    # peft's own files put their name before everything.
    named = {key.removeprefix("base_model.model."): value for key, value in named.items()}
    if not any(key.startswith(("unet.", *(f"{prefix}." for prefix in PREFIXES))) for key in named):
        named = {f"unet.{key}": value for key, value in named.items()}
    try:
        settings = json.loads(read_header(path).metadata.get(SETTINGS, "{}"))
    except ValueError as error:
        raise _foreign(path, f"its settings are no JSON ({error})") from error
    return Lora(named, alphas, settings)


def _is_lora(path: Path) -> bool:
    return path.is_file() and path.suffix == ".safetensors"


def _foreign(path: Path, why: str) -> NodeError:
    return NodeError(
        f"{path.name} is no LoRA for this model: {why}.",
        remedy="Choose a LoRA that was trained on the same base (SD 1.x, 2.x or SDXL).",
        code="wrong_lora",
        port="name",
    )


def _pairs(lora: Lora, prefix: str) -> dict[str, tuple[int, int]]:
    """module -> (width in, width out) that the LoRA expects of it."""
    from diffusers.utils.state_dict_utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    own = {key.removeprefix(f"{prefix}."): value for key, value in lora.state.items() if key.startswith(f"{prefix}.")}
    if not own:
        return {}
    if not any(".lora_A." in key for key in own):
        # Text encoders' layers have had several names; the first conversion brings all into one.
        text = prefix != "unet"
        own = (
            convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
            if text
            else convert_unet_state_dict_to_peft(own)
        )
    found = {}
    for key, down in own.items():
        up = own.get(key.replace(".lora_A.", ".lora_B."))
        if ".lora_A." in key and up is not None:
            found[key.split(".lora_A.")[0]] = (int(down.shape[1]), int(up.shape[0]))
    return found


def _check(lora: Lora, family: str, spec: ModelSpec, prefix: str, path: Path) -> bool:
    """Whether the LoRA changes this model. Raises NodeError where it names a layer that the model lacks, or one of another
    width."""
    import torch

    try:
        wanted = _pairs(lora, prefix)
    except ValueError as error:
        raise _foreign(path, f"its layers for {prefix} are not understood ({error})") from error
    if not wanted:
        return False
    build = next(row.build for row in families.FAMILIES if row.name == family)
    with torch.device("meta"):
        module = build(spec.config)
    layers = dict(module.named_modules())
    title = ARCHITECTURES[spec.extras["architecture"]].title if "architecture" in spec.extras else "the text encoder"
    for name, (inner, outer) in wanted.items():
        own = name if name in layers or hasattr(module, "text_model") else name.removeprefix("text_model.")
        weight = getattr(layers.get(own), "weight", None)
        if weight is None:
            raise _foreign(path, f"{title} has no layer {name}")
        if (weight.shape[1], weight.shape[0]) != (inner, outer):
            sizes = f"{weight.shape[1]} to {weight.shape[0]}"
            raise _foreign(path, f"{name} goes from {inner} to {outer}, that of {title} from {sizes}")
    return True


# --- use ------------------------------------------------------------------------------------------------------------


def patched_unet(context: NodeContext, base: Any, model: ModelSpec) -> Any:
    """`base`, or a copy that shares its weights and has the LoRAs of the spec."""
    loras = model.extras.get("loras", [])
    if not loras:
        return base
    quiet()
    unet = sharing_copy(base)
    names = []
    for index, entry in enumerate(loras):
        lora = lora_weights(_present(entry), model)
        names.append(f"lora_{index}")
        unet.load_lora_adapter(
            lora.state,
            prefix="unet",
            network_alphas=lora.alphas,
            metadata=lora.settings_of("unet"),
            adapter_name=names[-1],
            low_cpu_mem_usage=True,
        )
    return _with_strengths(unet, base, names, [entry["strength"] for entry in loras])


def patched_encoder(context: NodeContext, base: Any, clip: ModelSpec, index: int) -> Any:
    """The same for text encoder number `index` of a CLIP."""
    from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin

    loras = clip.extras.get("loras", [])
    if not loras:
        return base
    quiet()
    encoder, names, strengths = sharing_copy(base), [], []
    for number, entry in enumerate(loras):
        lora = _read(_present(entry), entry["layers_per_block"])
        if not any(key.startswith(f"{PREFIXES[index]}.") for key in lora.state):
            continue
        names.append(f"lora_{number}")
        strengths.append(entry["strength"])
        StableDiffusionXLLoraLoaderMixin.load_lora_into_text_encoder(
            lora.state,
            lora.alphas,
            encoder,
            prefix=PREFIXES[index],
            metadata=lora.settings_of(PREFIXES[index]),
            adapter_name=names[-1],
            low_cpu_mem_usage=True,
        )
    return _with_strengths(encoder, base, names, strengths) if names else base


def sharing_copy(module: Any) -> Any:
    """The same tree of modules again, around the same tensors: whatever is put into it, the original never knows."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _with_strengths(module: Any, base: Any, names: list[str], strengths: list[float]) -> Any:
    import torch
    from diffusers.utils.peft_utils import set_weights_and_activate_adapters

    set_weights_and_activate_adapters(module, names, strengths)
    like = next(base.parameters())
    # torch's own `to`: that of diffusers warns of a change of dtype, which is only one of the new layers.
    torch.nn.Module.to(module, device=like.device, dtype=like.dtype)
    return module.eval().requires_grad_(False)


def _present(entry: Mapping[str, Any]) -> Path:
    """The LoRA's file. Raises ModelError when it is gone."""
    path = Path(entry["path"])
    WeightFile.of(path)
    return path
