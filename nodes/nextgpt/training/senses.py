"""The frozen sides of training: what the encoder sees and hears of media, and the latents that decoders should make.

Both are the same for a medium whenever it comes, so they are kept: in memory for what recurs (a pool), on disk for the
files of a data set, where the weights that made them are a part of their name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nodes.nextgpt.model.mel import training_mel
from nodes.nextgpt.model.preprocess_audio import SAMPLE_RATE, spectrogram
from nodes.nextgpt.model.preprocess_image import normalise
from nodes.nextgpt.model.preprocess_video import frame_indices
from nodes.nextgpt.training.ledger import frozen_digest
from nodes.nextgpt.training.media import as_value, films, pictures, waves
from nodes.nextgpt.training.media_file import MediaFile
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.world.caption import AnyMedium, modality_of
from nodes.nextgpt.training.world.clip import FPS, FRAMES

MOST_KEPT = 20_000
"""Of features and latents in memory; a feature block of the mini encoder is 50 KB."""


class Kept:
    """Tensors by medium."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._memory: dict[Any, Tensor] = {}

    def get(self, media: Sequence[AnyMedium], make: Callable[[list[AnyMedium]], Tensor], kind: str) -> list[Tensor]:
        """One tensor per medium; those that are not kept yet are made together, "B ..."."""
        found = [self._find(medium, kind) for medium in media]
        lacking = [medium for medium, tensor in zip(media, found, strict=True) if tensor is None]
        if lacking:
            made = iter(make(lacking))
            for index, tensor in enumerate(found):
                if tensor is None:
                    found[index] = self._keep(media[index], kind, next(made))
        return [tensor for tensor in found if tensor is not None]

    def _find(self, medium: AnyMedium, kind: str) -> Tensor | None:
        kept = self._memory.get((kind, medium))
        if kept is None and isinstance(medium, MediaFile) and self.folder is not None:
            path = self._path(medium, kind)
            if path.is_file():
                from safetensors.torch import load_file

                kept = load_file(path)["tensor"]
        return kept

    def _keep(self, medium: AnyMedium, kind: str, tensor: Tensor) -> Tensor:
        if len(self._memory) < MOST_KEPT:
            self._memory[kind, medium] = tensor
        if isinstance(medium, MediaFile) and self.folder is not None:
            from nodes.nextgpt.training.snapshot import write

            write(self._path(medium, kind), {"tensor": tensor.detach().cpu().contiguous()}, {})
        return tensor

    def _path(self, medium: MediaFile, kind: str) -> Path:
        """By name, size and time of change: a file that is written anew is encoded anew."""
        stat = medium.path.stat()
        facts = f"{medium.path.absolute()} {stat.st_size} {stat.st_mtime_ns} {kind}"
        assert self.folder is not None
        return self.folder / f"{hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()}.safetensors"


class Senses:
    """keep: whether media recur, so that keeping them pays."""

    def __init__(self, parts: Parts, keep: bool = False) -> None:
        self.parts = parts
        self.device = parts.device
        self._kept = Kept(parts.folder / "cache") if keep else None
        self._digests: dict[nn.Module, str] = {}

    @property
    def encoder(self) -> Any:
        return self.parts.get("encoder")

    def features(self, media: Sequence[AnyMedium]) -> list[Tensor]:
        """What the input projector reads of each medium, "N D", in the form that the preset takes."""
        form = self.parts.extras("encoder").get("form", "global")
        found: list[Tensor | None] = [None] * len(media)
        for modality in ("image", "video", "audio"):
            places = [index for index, medium in enumerate(media) if modality_of(medium) == modality]
            if not places:
                continue
            group = [media[index] for index in places]
            for index, tensor in zip(places, self._features(modality, group, form), strict=True):
                found[index] = tensor
        return [tensor for tensor in found if tensor is not None]

    def _features(self, modality: str, media: list[AnyMedium], form: str) -> list[Tensor]:
        def make(group: list[AnyMedium]) -> Tensor:
            trunk = "audio" if modality == "audio" else "vision"
            with torch.no_grad():
                rows: Tensor = self.encoder.encode(trunk, self.encoder_input(modality, group), kind=form)
            return rows.float()

        return self.kept(media, make, f"features {form}", self.encoder)

    def kept(
        self,
        media: Sequence[AnyMedium],
        make: Callable[[list[AnyMedium]], Tensor],
        kind: str,
        maker: nn.Module | None = None,
    ) -> list[Tensor]:
        """What `make` gives for media "B ...", one tensor each; out of memory where media recur and it is there. maker: by
        whose weights, which are frozen; files of a data set outlive these on the disk."""
        if self._kept is None:
            return list(make(list(media)))
        if maker is not None and any(isinstance(medium, MediaFile) for medium in media):
            kind = f"{kind} {self._digest(maker)}"
        return self._kept.get(media, make, kind)

    def _digest(self, maker: nn.Module) -> str:
        if maker not in self._digests:
            self._digests[maker] = frozen_digest({"": maker}, {}).all
        return self._digests[maker]

    def encoder_input(self, modality: str, media: Sequence[AnyMedium]) -> Tensor:
        """What the encode nodes would give the encoder, many at once.

        A clip of the world lasts two seconds, so all of ImageBind's clips (and crops of a square) are one; it is encoded
        once. Files go the way of the nodes.
        """
        config = self.encoder.config
        if any(isinstance(medium, MediaFile) for medium in media):
            from nodes.nextgpt.model.preprocess import preprocess

            return torch.cat([preprocess(modality, as_value(medium), config) for medium in media]).to(self.device)
        side = (config.image_size, config.image_size)
        if modality == "image":
            return normalise(pictures(media, side, self.device).movedim(-1, 1))
        if modality == "audio":
            return spectrogram(waves(media, 2 * SAMPLE_RATE, self.device), config)[:, None]
        frames = films(media, side, FRAMES, self.device)
        shown = frame_indices(FRAMES, FPS, config.vision_frames, clips=1)[0]
        planes = normalise(frames[:, shown].movedim(-1, 2).flatten(0, 1)).unflatten(0, (len(media), len(shown)))
        return planes.transpose(1, 2)[:, None]  # B, one clip, 3 T S S

    def latents(self, modality: str, media: Sequence[AnyMedium]) -> Tensor:
        """What the decoder of this modality should end with: "B C h w", or "B C F h w" for films."""

        def make(group: list[AnyMedium]) -> Tensor:
            with torch.no_grad():
                return self._latents(modality, group)

        return torch.stack(self.kept(media, make, "latents", self.parts.get(f"{modality}_decoder").vae))

    def _latents(self, modality: str, media: list[AnyMedium]) -> Tensor:
        decoder = self.parts.get(f"{modality}_decoder")
        target = self.decoder_target(modality, media)
        frames = target.flatten(0, 1) if modality == "video" else target
        cells = decoder.vae.encode(frames).latent_dist.mode() * decoder.vae.config.scaling_factor
        return cells.unflatten(0, (len(media), -1)).transpose(1, 2) if modality == "video" else cells

    def decoder_target(self, modality: str, media: Sequence[AnyMedium]) -> Tensor:
        """What the autoencoder of a decoder reads: pictures "B 3 H W" or films "B F 3 H W" in -1..1, mel "B 1 T 64"."""
        decoder = self.parts.get(f"{modality}_decoder")
        config = decoder.config
        if modality == "image":
            return pictures(media, config.size, self.device).movedim(-1, 1) * 2 - 1
        if modality == "video":
            return films(media, config.size, config.frames, self.device).movedim(-1, 2) * 2 - 1
        return self.mel(media)[:, None]

    def mel(self, media: Sequence[AnyMedium]) -> Tensor:
        """Log-mel spectrograms "B T 64" as the audio decoder was made for, at their own loudness."""
        return self.mel_of(self.waves(media))

    def waves(self, media: Sequence[AnyMedium]) -> Tensor:
        """Waveforms "B S", as long as the audio decoder makes them."""
        decoder = self.parts.get("audio_decoder")
        config = decoder.config
        step = decoder.hop * config.vae_factor
        return waves(media, -(-round(config.seconds * config.sample_rate) // step) * step, self.device)

    def mel_of(self, wave: Tensor) -> Tensor:
        """Log-mel spectrograms "B T 64" of waveforms "B S"."""
        decoder = self.parts.get("audio_decoder")
        bands, rate = decoder.vocoder.config.model_in_dim, decoder.config.sample_rate
        return training_mel(wave, wave.shape[1], bands, decoder.hop, rate, level=False)
