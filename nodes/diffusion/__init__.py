"""Other generators beside NExT-GPT: pictures, sound, video, captions and speech by models of diffusers and transformers."""

from __future__ import annotations

from nodes.diffusion.latent import empty_latent, encode_inpaint, mask_latent, vae_decode, vae_encode
from nodes.diffusion.load import load_checkpoint
from nodes.diffusion.lora import apply_lora
from nodes.diffusion.sample import sample
from nodes.diffusion.text import encode_text

__all__ = [
    "apply_lora",
    "empty_latent",
    "encode_inpaint",
    "encode_text",
    "load_checkpoint",
    "mask_latent",
    "sample",
    "vae_decode",
    "vae_encode",
]
