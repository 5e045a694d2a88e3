"""State dicts of published files in the names of our modules: checkpoints in the original layout, and old diffusers ones.

The renaming of the original layout is diffusers' (`diffusers.loaders.single_file_utils`); what it needs to know of the
sizes is counted from the keys.
"""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from nodes.diffusion import single_file

# How diffusers named the attention of autoencoders before version 0.12.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


CONTROL = "control_model."
HINT = "input_hint_block.0.weight"
"""Of every ControlNet in the original layout, whose keys have `CONTROL` before them or nothing."""
_ADDED = {
    f"label_emb.0.{layer}.{kind}": f"add_embedding.linear_{number}.{kind}"
    for number, layer in ((1, 0), (2, 2))
    for kind in ("weight", "bias")
}
_ORIGINAL_VAE = ("encoder.mid.", "decoder.mid.")
"""Where diffusers says `mid_block`."""
_VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def decoder_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of denoiser and autoencoder together, of one file or of two; their names have no beginning in common."""
    if any(key.startswith(single_file.OF_VAE) for key in state):
        vae, unet = (_marked(state, mark) for mark in (single_file.OF_VAE, single_file.OF_UNET))
        return _decoder(unet_state(unet), vae_state(vae))
    if any(key.startswith("unet.") for key in state):
        return dict(state)
    vae = {key: value for key, value in state.items() if key.startswith((single_file.VAE, *_VAE_PARTS))}
    unet = {key: value for key, value in state.items() if key not in vae}
    return _decoder(unet_state(unet), vae_state(vae))


def _marked(state: Mapping[str, Any], mark: str) -> dict[str, Any]:
    return {key.removeprefix(mark): value for key, value in state.items() if key.startswith(mark)}


def _decoder(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> dict[str, Any]:
    return {f"unet.{key}": value for key, value in unet.items()} | {f"vae.{key}": value for key, value in vae.items()}


def unet_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The denoiser's tensors, in diffusers' names. Of a decoder of NExT-GPT too, which has both parts in one file."""
    if any(key.startswith("unet.") for key in state):
        return {key.removeprefix("unet."): value for key, value in state.items() if key.startswith("unet.")}
    if not any(key.startswith(single_file.UNET) for key in state):
        return dict(state)
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    own = {key: value for key, value in state.items() if key.startswith(single_file.UNET)}
    shapes = {key.removeprefix(single_file.UNET): tuple(value.shape) for key, value in own.items()}
    config: dict[str, Any] = {"layers_per_block": _layers_per_block(shapes)}
    if "label_emb.0.0.weight" in shapes:
        config["addition_embed_type"] = "text_time"
    converted = dict(convert_ldm_unet_checkpoint(own, config))
    if len(converted) != len(own):
        raise ValueError(f"{len(own) - len(converted)} tensors of the denoiser have no name in diffusers")
    return converted


def controlnet_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A ControlNet's tensors (or their shapes) in diffusers' names, of a file that may hold a whole checkpoint beside it."""
    own = {key.removeprefix(CONTROL): value for key, value in state.items() if key.startswith(CONTROL)} or dict(state)
    if HINT not in own:
        return own
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    converted = convert_controlnet_checkpoint(own, {"layers_per_block": _layers_per_block(own)})
    # That of SDXL is told what its denoiser is told, which this conversion does not know.
    converted |= {new: own.get(old) for old, new in _ADDED.items()}
    converted = {key: value for key, value in converted.items() if value is not None}
    if len(converted) != len(own):
        raise ValueError(f"{len(own) - len(converted)} tensors of the ControlNet have no name in diffusers")
    return converted


def _layers_per_block(keys: Iterable[str]) -> int:
    """Of the original layout: its blocks are counted through, resamplers included."""
    downs = sum(key.startswith("input_blocks.") and key.endswith(".0.op.weight") for key in keys)
    blocks = len({key.split(".")[1] for key in keys if key.startswith("input_blocks.")})
    return (blocks - 1 - downs) // (downs + 1)


def vae_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The autoencoder's tensors, in diffusers' present names. Of a decoder of NExT-GPT and of a whole checkpoint too."""
    for prefix in ("vae.", single_file.VAE):
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            break
    if any(key.startswith(_ORIGINAL_VAE) for key in state):
        from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

        levels = len({key.split(".")[2] for key in state if key.startswith("encoder.down.")})
        blocks = ["block"] * levels
        return dict(convert_ldm_vae_checkpoint(dict(state), {"down_block_types": blocks, "up_block_types": blocks}))
    return {_newer(key): _flat(key, value) for key, value in state.items()}


def _newer(key: str) -> str:
    head, _, tail = key.rpartition(".")
    before, _, name = head.rpartition(".")
    return f"{before}.{_OLD_ATTENTION[name]}.{tail}" if ".attentions." in key and name in _OLD_ATTENTION else key


def _flat(key: str, value: Any) -> Any:
    """Old files hold these matrices as convolutions of width one."""
    is_matrix = ".attentions." in key and value.ndim == 4 and tuple(value.shape[2:]) == (1, 1)
    return value[:, :, 0, 0] if is_matrix else value


def text_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of the only text encoder, or of the first of two, in the names of transformers' CLIPTextModel."""
    for prefix in (single_file.CLIP_1, single_file.CLIP_1_OLD, single_file.CLIP_XL):
        if any(key.startswith(prefix) for key in state):
            state = {key: value for key, value in state.items() if key.startswith(prefix)}
            return {key.removeprefix(prefix): value for key, value in state.items() if not _is_computed(key)}
    if any(key.startswith(single_file.OPEN_CLIP_2) for key in state):
        blocks = f"{single_file.OPEN_CLIP_2}transformer.resblocks."
        last = max(int(key.removeprefix(blocks).split(".")[0]) for key in state if key.startswith(blocks))
        unused = f"{blocks}{last}."  # see single_file._texts
        state = {key: value for key, value in state.items() if not key.startswith(unused)}
        named = _open_clip(state, single_file.OPEN_CLIP_2)
        named.pop("text_projection.weight", None)
        return {key.removeprefix("text_model."): value for key, value in named.items()}
    return {key.removeprefix("text_model."): value for key, value in state.items() if not _is_computed(key)}


def second_text_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors of SDXL's second text encoder, in the names of transformers' CLIPTextModelWithProjection."""
    if any(key.startswith(single_file.OPEN_CLIP_XL) for key in state):
        return _open_clip(state, single_file.OPEN_CLIP_XL)
    return {key: value for key, value in state.items() if not _is_computed(key)}


def _is_computed(key: str) -> bool:
    return key.endswith(".position_ids")


def _open_clip(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    own = {key: value for key, value in state.items() if key.startswith(prefix)}
    width = own[f"{prefix}token_embedding.weight"].shape[1]
    return dict(convert_open_clip_checkpoint(SimpleNamespace(config=SimpleNamespace(hidden_size=width)), own, prefix))
