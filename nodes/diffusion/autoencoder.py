"""Load VAE: an autoencoder by itself, for checkpoints that have none or a worse one. Weights come when they are first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from graph_engine import NodeContext, NodeError, node
from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec
from nodes.diffusion import families, folder, single_file, tiny
from nodes.diffusion.architecture import ARCHITECTURES, Architecture
from nodes.diffusion.found import candidates, find
from nodes.diffusion.header import Header, read_header, weight_file
from nodes.diffusion.kinds import Vae
from nodes.diffusion.latent import CHANNELS
from nodes.diffusion.load import AS_STORED, CATEGORY, Dtype, Name

PLACES = ("vae", "checkpoints", "diffusers")
KIND = "AutoencoderKL"
Base = Literal["as stored", "sd1", "sd2", "sdxl"]


def _reads(literals: Mapping[str, Any]) -> list[str]:
    name = str(literals.get("name", ""))
    if name == tiny.NAME:
        return []  # made
    files: list[str] = []
    for path in candidates(name, PLACES):
        files += [path, f"{path}/{folder.INDEX}", *folder.part_files(path), *folder.part_files(f"{path}/vae")]
    return files


@node(id="diffusion.load_vae", version=f"1.0.{tiny.RECIPE}", title="Load VAE", category=CATEGORY, reads=_reads)
def load_vae(context: NodeContext, name: Name = tiny.NAME, dtype: Dtype = "as stored", base: Base = "as stored") -> Vae:
    """The autoencoder in a file or folder of the models folder, to be used instead of a checkpoint's own.

    name: a .safetensors file (of an autoencoder, in the original layout or in that of diffusers, or of a whole checkpoint) or
    a diffusers folder, under the models folder or its subfolders `vae`, `checkpoints` and `diffusers`. base: what a file
    by itself is for, since it may not say how its latents are scaled: unless it does, one that is named `...xl...` is taken
    for SDXL and any other for SD 1.x or 2.x, and the log says so. That of SDXL is in float32, as it overflows otherwise.
    """
    if name == tiny.NAME:
        tiny.ensure(context.models_dir)
    path = find(name, context.models_dir, PLACES, _is_vae, "VAE")
    wanted = "" if dtype == AS_STORED else dtype
    if path.is_dir():
        return _from_folder(path, wanted, {"made": tiny.NAME} if name == tiny.NAME else {})
    return _from_file(context, path, wanted, base)


def _is_vae(path: Path) -> bool:
    if path.is_file():
        return path.suffix == ".safetensors"
    return folder.is_model(path) or folder.is_model(_own(path))


def _own(path: Path) -> Path:
    """The autoencoder's own folder, of that of a pipeline or of itself."""
    return path / "vae" if folder.is_pipeline(path) else path


def _from_folder(path: Path, dtype: str, made: Mapping[str, str]) -> ModelSpec:
    own = _own(path)
    said = folder.read_json(own / "config.json")
    if (kind := said.get("_class_name")) != KIND:
        kind = kind or said.get("model_type") or "a model that does not say its name"
        raise _unknown(f"{own} holds {kind}, not an {KIND}.")
    row = _scaled_as(float(said.get("scaling_factor") or ARCHITECTURES["sd1"].scaling))
    facts = {"architecture": row.name} if row is not None else {}
    found = folder.part(own, families.VAE, dtype, **facts, name=path.name, **made)
    upcast = row is not None and row.upcast and said.get("force_upcast", True)
    return replace(found, dtype="float32") if upcast else found


def _scaled_as(scaling: float) -> Architecture | None:
    return next((row for row in ARCHITECTURES.values() if row.scaling == scaling), None)


def _from_file(context: NodeContext, path: Path, dtype: str, base: Base) -> ModelSpec:
    header = read_header(path)
    prefix = single_file.VAE if any(key.startswith(single_file.VAE) for key in header.shapes) else ""
    shapes = single_file.under(header.shapes, prefix)
    if not any(key.startswith(("encoder.", "decoder.")) for key in shapes):
        raise _unknown(f"{path.name} holds no autoencoder: its keys begin with {single_file.beginnings(shapes)}.")
    row = _base(context, header, path.name, base)
    try:
        config = single_file.vae_config(shapes, row)
    except (KeyError, IndexError) as error:
        raise _unknown(f"{path.name} holds no {KIND} of pictures: it lacks {error}.") from error
    if config["latent_channels"] != CHANNELS:
        raise _unknown(
            f"the latents of {path.name} have {config['latent_channels']} channels, not {CHANNELS}; how they are scaled "
            "the file does not say."
        )
    share = sum(size for key, size in header.bytes.items() if key.startswith(prefix))
    facts = {"architecture": row.name, "name": path.name}
    dtype = "float32" if row.upcast else dtype or header.dtype
    return ModelSpec(families.VAE, config, (weight_file(path, share),), dtype, facts)


def _base(context: NodeContext, header: Header, name: str, base: Base) -> Architecture:
    """What the autoencoder is for: as it was told, as the file's remarks or its other parts say, or by its name."""
    if base != "as stored":
        return ARCHITECTURES[base]
    said = header.metadata.get("modelspec.architecture", "").lower()
    for mark, row in (("stable-diffusion-xl", "sdxl"), ("stable-diffusion-v2", "sd2"), ("stable-diffusion-v1", "sd1")):
        if said.startswith(mark):
            return ARCHITECTURES[row]
    try:
        return single_file.architecture_of(header.shapes, name)
    except ModelError:
        row = "sdxl" if "xl" in name.lower() else "sd1"
    known = "SDXL" if row == "sdxl" else "Stable Diffusion 1.x or 2.x"
    context.log(f"{name} does not say what it is for and is taken for {known}, by its name; `base` says otherwise.")
    return ARCHITECTURES[row]


def _unknown(message: str) -> NodeError:
    return NodeError(
        message,
        remedy=f"Known are the VAEs of Stable Diffusion 1.x, 2.x and SDXL, and diffusers folders of an {KIND}.",
        code="unknown_architecture",
        port="name",
    )
