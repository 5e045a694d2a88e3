"""Kinds of this pack: models of other generators. CONDITIONING, LATENT and the media are the engine's own kinds."""

from __future__ import annotations

from typing import Annotated, Any

from graph_engine import ModelKind

MODEL = ModelKind("MODEL", description="denoiser of a picture generator")
CLIP = ModelKind("CLIP", description="text encoders of a picture generator, with their tokenizers")
VAE = ModelKind("VAE", description="autoencoder between pictures and latents")
CONTROL_NET = ModelKind("CONTROL_NET", description="what makes a denoiser follow a picture")
SOUND_MODEL = ModelKind("SOUND_MODEL", description="text to sound: AudioLDM 2, MusicGen")
VIDEO_MODEL = ModelKind("VIDEO_MODEL", description="text to video: LTX, AnimateDiff")
CAPTIONER = ModelKind("CAPTIONER", description="picture to text: BLIP, GIT, ViT-GPT2")
RECOGNISER = ModelKind("RECOGNISER", description="speech to text: Whisper")
SPEAKER = ModelKind("SPEAKER", description="text to speech: VITS")

Model = Annotated[Any, MODEL]
Clip = Annotated[Any, CLIP]
Vae = Annotated[Any, VAE]
ControlNet = Annotated[Any, CONTROL_NET]
SoundModel = Annotated[Any, SOUND_MODEL]
VideoModel = Annotated[Any, VIDEO_MODEL]
Captioner = Annotated[Any, CAPTIONER]
Recogniser = Annotated[Any, RECOGNISER]
Speaker = Annotated[Any, SPEAKER]
