"""Load checkpoint: a name to the specs of denoiser, text encoders and autoencoder. Weights come when they are first used.

The node is PURE although it looks at files: it names the files it may read, so that a replaced one changes its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from graph_engine import NodeContext, Skip, Widget, node
from nodes.diffusion.kinds import Clip, Model, Vae
from nodes.diffusion.tiny import RECIPE

CATEGORY = "Diffusion"
AS_STORED = "as stored"
Dtype = Literal["as stored", "float32", "float16", "bfloat16"]
Prediction = Literal["as stored", "epsilon", "v_prediction"]
Name = Annotated[str, Widget(max=512, placeholder="a file or folder of the models folder", suggest="models")]


class Parts(NamedTuple):
    model: Model
    clip: Clip
    vae: Vae


def _reads(literals: Mapping[str, Any]) -> list[str]:
    from nodes.diffusion.checkpoint import reads

    return reads(str(literals.get("name", "")))


@node(id="diffusion.load_checkpoint", version=f"1.1.{RECIPE}", title="Load checkpoint", category=CATEGORY, reads=_reads)
def load_checkpoint(
    context: NodeContext, name: Name = "tiny-sd", dtype: Dtype = "as stored", prediction: Prediction = "as stored"
) -> Parts:
    """Denoiser, text encoders and autoencoder of a Stable Diffusion 1.x, 2.x or SDXL checkpoint.

    name: a .safetensors file in the original layout or a diffusers folder, under the models folder or its subfolders
    `checkpoints` and `diffusers`; `tiny-sd` is made on first use, with random weights. prediction: for files of SD 2,
    which do not say what they predict; those of 512 pixels want `epsilon`. A file without text encoders or autoencoder
    leaves that output empty.
    """
    from nodes.diffusion.checkpoint import load

    parts = load(
        name, context.models_dir, "" if dtype == AS_STORED else dtype, "" if prediction == AS_STORED else prediction
    )
    clip = Skip(f"{name} holds no text encoder") if parts.clip is None else parts.clip
    vae = Skip(f"{name} holds no autoencoder") if parts.vae is None else parts.vae
    return Parts(parts.model, clip, vae)


def lease(context: NodeContext, spec: Any) -> Any:
    """The module of a spec, after a look at its files. LoRAs are not part of it (see `lora.patched`)."""
    from dataclasses import replace

    from nodes.diffusion.checkpoint import present

    # What nodes want to know of a model is no part of its weights: models that differ only in that are one in memory.
    return context.model(replace(present(spec, context.models_dir), extras={}))
