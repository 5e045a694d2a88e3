"""Gates: what has to be right before the next stage is worth its time, part by part, by the same judges.

    python -m nodes.nextgpt.training.evaluation.gates FOLDER [--modality NAME] [--count N] [--device NAME] [--sheet FILE.png]

`rebuilt_*`: withheld media through an autoencoder (and vocoder) and back. `drawn_*`: withheld captions through a decoder's
own text encoder and denoiser, without the language model. Shares of media that are right in the attribute.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nodes.nextgpt.training.evaluation.sheet import sheet
from nodes.nextgpt.training.evaluation.speaker import Speaker
from nodes.nextgpt.training.judges.verdict import judge
from nodes.nextgpt.training.parts import Parts
from nodes.nextgpt.training.plan import MODALITIES
from nodes.nextgpt.training.seeds import drawer
from nodes.nextgpt.training.world.caption import EVERYTHING, Medium, caption
from nodes.nextgpt.training.world.talk import Talker
from nodes.nextgpt.training.world.wish import wish_of

Sample = tuple[str, str, Tensor, bool | None]


def gates(
    speaker: Speaker, count: int, seed: int = 0, modalities: Sequence[str] = MODALITIES
) -> tuple[dict[str, float], list[Sample]]:
    """Figures by name, and samples for a sheet. modalities: whose parts are judged; the others need not be trained."""
    votes: dict[str, list[bool]] = defaultdict(list)
    samples: list[Sample] = []
    for modality in modalities:
        talker = Talker(drawer("gates", seed, modality), withheld=True)
        media: list[Medium] = []
        for _ in range(count):
            media.append(
                talker.scene() if modality == "image" else talker.sound() if modality == "audio" else talker.clip()
            )
        for name, values in (
            (f"rebuilt_{modality}", rebuilt(speaker, modality, media)),
            (f"drawn_{modality}", drawn(speaker, modality, media, seed)),
        ):
            for medium, value in zip(media, values, strict=True):
                facts = judge(wish_of(medium, EVERYTHING), value)
                for what, right in facts.items():
                    votes[f"{name}_{what}"].append(right)
                votes[f"{name}_all"].append(all(facts.values()))
                samples.append((f"{name}: {caption(medium)}", modality, value, all(facts.values())))
    return {name: sum(found) / len(found) for name, found in votes.items()}, samples


@torch.no_grad()
def rebuilt(speaker: Speaker, modality: str, media: list[Medium]) -> list[Tensor]:
    """Media through the autoencoder, and sounds through the vocoder too; as judges take them."""
    decoder: Any = speaker.parts.get(f"{modality}_decoder").eval()
    target = speaker.senses.decoder_target(modality, media)
    frames = target.flatten(0, 1) if modality == "video" else target
    shown = torch.cat(
        [decoder.vae.decode(decoder.vae.encode(part).latent_dist.mode()).sample for part in frames.split(32)]
    )
    if modality == "audio":
        length = round(decoder.config.seconds * decoder.config.sample_rate)
        return [decoder.vocoder(mel)[:length].float().clamp(-1, 1).cpu() for mel in shown[:, 0]]
    pictures = ((shown + 1) / 2).clamp(0, 1).movedim(1, -1).cpu()
    return list(pictures.unflatten(0, (len(media), -1)) if modality == "video" else pictures)


def drawn(speaker: Speaker, modality: str, media: list[Medium], seed: int) -> list[Tensor]:
    """Media out of their canonical captions."""
    return [
        speaker.decode(modality, speaker.caption(modality, caption(medium)), seed + number)
        for number, medium in enumerate(media)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a training folder of the preset mini")
    parser.add_argument(
        "--modality", action="append", choices=MODALITIES, help="only this one (may be repeated; default: all)"
    )
    parser.add_argument("--count", type=int, default=24, help="media per modality (default: 24)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sheet", type=Path, help="write the samples as one picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts = Parts("mini", arguments.folder, arguments.folder / "models", arguments.device)
    figures, samples = gates(Speaker(parts), arguments.count, modalities=arguments.modality or MODALITIES)
    for name, value in figures.items():
        print(f"{name:32}{value:7.3f}")
    if arguments.sheet:
        sheet(samples, columns=8).save(arguments.sheet)


if __name__ == "__main__":
    main()
