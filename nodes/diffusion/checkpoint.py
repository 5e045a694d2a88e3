"""Checkpoint: a folder or a single file of Stable Diffusion 1.x, 2.x or SDXL to the specs of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from graph_engine.errors import ModelError
from graph_engine.models.spec import ModelSpec, WeightFile
from nodes.diffusion import families, folder, single_file, tiny
from nodes.diffusion.found import candidates, find
from nodes.diffusion.header import Header, read_header, weight_file
from nodes.nextgpt import checkpoint as nextgpt

PLACES = ("checkpoints", "diffusers")
SHARED_TOKENIZER = "clip_tokenizer"
_UNETS = ("UNet2DConditionModel",)
_LEADING = ("DDIM", "DDPM", "LCM", "PNDM", "TCD")
"""Schedulers of diffusers that begin each stretch of timesteps, where nothing else is said; the others divide the whole."""


class Checkpoint(NamedTuple):
    model: ModelSpec
    clip: ModelSpec | None
    vae: ModelSpec | None


def load(name: str, models_dir: Path, dtype: str = "", prediction: str = "") -> Checkpoint:
    """The specs of a checkpoint; nothing is loaded. `dtype` and `prediction` override what the files say.

    Raises NodeError or ModelError for what is absent, damaged, a pickle, or of another architecture.
    """
    if name == tiny.NAME:
        tiny.ensure(models_dir)
    path = find(name, models_dir, PLACES, is_checkpoint, "checkpoint")
    made = {"made": tiny.NAME} if name == tiny.NAME else {}
    if path.is_dir():
        return _from_folder(path, dtype, prediction, made)
    return _from_file(path, models_dir, dtype, prediction)


def is_checkpoint(path: Path) -> bool:
    return (path.is_file() and path.suffix == ".safetensors") or folder.is_pipeline(path)


def reads(name: str) -> list[str]:
    """Files under the models folder that `load(name)` may rest on; none for one that is made."""
    if name == tiny.NAME:
        return []
    files: list[str] = [f"{SHARED_TOKENIZER}/vocab.json", f"{SHARED_TOKENIZER}/merges.txt"]
    for path in candidates(name, PLACES):
        files += [path, *folder.possible_files(path)]
    return files


def present(spec: ModelSpec, models_dir: Path) -> ModelSpec:
    """`spec` with its files as they are now: a spec may come from a cache that is older than its files."""
    if spec.extras.get("made"):
        tiny.ensure(models_dir, spec.extras["made"])
    if "decoder" in spec.extras:  # its weights are those of a decoder of NExT-GPT, which may have to be made again
        nextgpt.present(ModelSpec.from_dict(spec.extras["decoder"]), models_dir)
    files = tuple(replace(WeightFile.of(Path(file.path), file.prefix), bytes=file.bytes) for file in spec.files)
    return spec if files == spec.files else replace(spec, files=files)


# --- a folder -------------------------------------------------------------------------------------------------------


def _from_folder(path: Path, dtype: str, prediction: str, made: Mapping[str, str]) -> Checkpoint:
    index = folder.read_json(path / folder.INDEX)
    kind = (index.get("unet") or ("", ""))[1]
    if kind not in _UNETS:
        raise ModelError(
            f"{path} is a {index.get('_class_name', 'pipeline without a name')}, which is not known here.",
            remedy="Known are folders of Stable Diffusion 1.x, 2.x and SDXL.",
            code="unknown_architecture",
        )
    model = folder.part(path / "unet", families.UNET, dtype)
    steps = folder.read_json(path / "scheduler" / "scheduler_config.json")
    _only_words(model.config, {**index, **steps}, path)
    noise = schedule(steps, prediction)
    architecture = families.architecture(model.config)
    facts = {"architecture": architecture, "name": path.name, **made}
    model = replace(model, extras={**facts, "schedule": noise})
    vae = clip = None
    if (path / "vae").is_dir():
        vae = folder.part(path / "vae", families.VAE, dtype, **facts)
        if vae.config.get("force_upcast", True) and architecture == "sdxl":
            vae = replace(vae, dtype="float32")
    if (path / "text_encoder").is_dir():
        encoders = [folder.part(path / "text_encoder", families.TEXT, dtype, **made)]
        if (path / "text_encoder_2").is_dir():
            encoders.append(folder.part(path / "text_encoder_2", families.SECOND_TEXT, dtype, **made))
        tokenizers = [str(path / place) for place in ("tokenizer", "tokenizer_2")[: len(encoders)]]
        clip = clip_spec(encoders, tokenizers, ["own"] * len(encoders), facts)
    return Checkpoint(model, clip, vae)


def _only_words(unet: Mapping[str, Any], beside: Mapping[str, Any], path: Path) -> None:
    """Raises ModelError for a denoiser that wants more than words, or noise of another kind: it would draw something wrong.

    beside: what the folder says of pipeline and scheduler.
    """
    more, drawn = unet.get("in_channels", 4) - unet.get("out_channels", 4), unet.get("out_channels", 4)
    kind = str(beside.get("_class_name", ""))
    reason = ""
    if more not in (0, drawn + 1):
        reason = f"draws on {more} channels beside the latent (a picture to be edited, or a depth map)"
    elif unet.get("class_embed_type") or unet.get("num_class_embeds"):
        reason = "is told a class or the embedding of a picture beside the words"
    elif unet.get("addition_embed_type") not in (None, "text_time") or unet.get("encoder_hid_dim_type"):
        reason = "is told more than CLIP says of the words"
    elif kind.startswith(("EDM", "FlowMatch")):
        reason = f"was trained with the noise of {kind}"
    elif beside.get("requires_aesthetics_score"):
        reason = "is told how beautiful the picture is to be (an SDXL refiner)"
    elif beside.get("trained_betas"):
        reason = "was trained with noise levels of its own"
    if reason:
        raise ModelError(
            f"the denoiser of {path} {reason}, which is not known here.",
            remedy="Known are Stable Diffusion 1.x, 2.x and SDXL that draw from words, and their inpainting models.",
            code="unknown_architecture",
        )


def schedule(config: Mapping[str, Any], prediction: str = "") -> dict[str, Any]:
    """The training schedule that a scheduler's config states, whichever scheduler it is for.

    Where steps stop it states by a word that is not its class's own: files are written with every default, which says
    nothing to the other classes.
    """
    from nodes.nextgpt.model.diffusion_config import TrainingSchedule

    default = asdict(TrainingSchedule())
    found = TrainingSchedule(**{key: config.get(key, value) for key, value in default.items()})
    own = "leading" if str(config.get("_class_name", "")).startswith(_LEADING) else "linspace"
    if found.timestep_spacing == own:
        found = replace(found, timestep_spacing=None)
    return replace(found, prediction_type=prediction or found.prediction_type).to_json()


def clip_spec(encoders: list[ModelSpec], tokenizers: list[str], pads: list[Any], facts: Mapping[str, Any]) -> ModelSpec:
    """One spec for all text encoders of a checkpoint: it names their specs, and each is loaded by itself.

    pads: what fills a short text, per encoder: "own" (as the tokenizer says), "end" (its end sign) or a token id.
    """
    extras = {
        **facts,
        "encoders": [encoder.to_dict() for encoder in encoders],
        "tokenizers": tokenizers,
        "pads": pads,
    }
    files = tuple(file for encoder in encoders for file in encoder.files)
    return ModelSpec(families.CLIP, {}, files, encoders[0].dtype, extras)


# --- a single file --------------------------------------------------------------------------------------------------


def _from_file(path: Path, models_dir: Path, dtype: str, prediction: str) -> Checkpoint:
    header = read_header(path)
    parts = single_file.detect(header.shapes, path.name)
    if parts.unet is None:
        raise ModelError(
            f"{path.name} holds no denoiser.",
            remedy="Give a whole checkpoint; parts by themselves are not loaded.",
            code="unknown_architecture",
        )
    _only_words(parts.unet, {}, path)
    row = parts.architecture
    dtype = dtype or header.dtype
    facts = {"architecture": row.name, "name": path.name}
    noise = schedule({"prediction_type": _prediction(header, row.prediction), **_last_step(header)}, prediction)

    def spec(family: str, config: Mapping[str, Any], prefix: str, **extras: Any) -> ModelSpec:
        share = sum(size for key, size in header.bytes.items() if key.startswith(prefix))
        return ModelSpec(family, config, (weight_file(path, share),), dtype, extras)

    model = spec(families.UNET, parts.unet, single_file.UNET, **facts, schedule=noise)
    vae = clip = None
    if parts.vae is not None:
        vae = spec(families.VAE, parts.vae, single_file.VAE, **facts)
        vae = replace(vae, dtype="float32") if row.upcast else vae
    if parts.texts:
        kinds = (families.TEXT, families.SECOND_TEXT)
        rows = zip(kinds, parts.texts, parts.text_prefixes, strict=False)
        encoders = [spec(kind, config, prefix) for kind, config, prefix in rows]
        tokenizer = str(models_dir / SHARED_TOKENIZER)
        pads = ["end" if pad is None else pad for pad in row.pad]
        clip = clip_spec(encoders, [tokenizer] * len(encoders), pads, facts)
    return Checkpoint(model, clip, vae)


def _last_step(header: Header) -> dict[str, Any]:
    """Files mark with an empty tensor of this name that the last step was pure noise; then a picture has to begin there."""
    return {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if "ztsnr" in header.shapes else {}


def _prediction(header: Header, usual: str) -> str:
    """What the file says of itself, else what is usual for its architecture."""
    if "v_pred" in header.shapes:
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "").lower()
    return {"v": "v_prediction", "epsilon": "epsilon"}.get(said, usual)
