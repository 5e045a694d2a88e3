"""Other generators beside NExT-GPT: pictures, sound, video, captions and speech by models of diffusers and transformers."""

from __future__ import annotations

from nodes.diffusion.autoencoder import load_vae
from nodes.diffusion.bridge import as_decoder, decoder_parts
from nodes.diffusion.caption import caption, load_captioner
from nodes.diffusion.conditions import combine_conditions
from nodes.diffusion.controlnet import apply_controlnet, load_controlnet
from nodes.diffusion.film import generate_video, load_video
from nodes.diffusion.latent import empty_latent, encode_inpaint, mask_latent, vae_decode, vae_encode
from nodes.diffusion.latent_size import upscale_latent
from nodes.diffusion.load import load_checkpoint
from nodes.diffusion.lora import apply_lora
from nodes.diffusion.sample import sample
from nodes.diffusion.sound import generate_sound, load_sound
from nodes.diffusion.speech import load_recogniser, load_speaker, speak, transcribe
from nodes.diffusion.text import encode_text

__all__ = [
    "apply_controlnet",
    "apply_lora",
    "as_decoder",
    "caption",
    "combine_conditions",
    "decoder_parts",
    "empty_latent",
    "encode_inpaint",
    "encode_text",
    "generate_sound",
    "generate_video",
    "load_captioner",
    "load_checkpoint",
    "load_controlnet",
    "load_recogniser",
    "load_sound",
    "load_speaker",
    "load_vae",
    "load_video",
    "mask_latent",
    "sample",
    "speak",
    "transcribe",
    "upscale_latent",
    "vae_decode",
    "vae_encode",
]
