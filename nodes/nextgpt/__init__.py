"""NExT-GPT as nodes: any-to-any conversation over text, image, video and audio. Models load when first used."""

from __future__ import annotations

from nodes.nextgpt.assemble import assemble
from nodes.nextgpt.caption_route import caption_route, encode_caption, load_text_encoder
from nodes.nextgpt.captions import captions
from nodes.nextgpt.causal_lm import load_causal_lm
from nodes.nextgpt.conversation import conversation, encode_conversation
from nodes.nextgpt.decode_audio import audio_to_latent, decode_audio, latent_to_audio, sample_audio
from nodes.nextgpt.decode_image import decode_image, image_to_latent, latent_to_image, sample_image
from nodes.nextgpt.decode_video import decode_video, latent_to_video, sample_video, video_to_latent
from nodes.nextgpt.encode import (
    encode_audio,
    encode_depth,
    encode_image,
    encode_imu,
    encode_text,
    encode_thermal,
    encode_video,
)
from nodes.nextgpt.findings import findings
from nodes.nextgpt.history import load_conversation, save_conversation
from nodes.nextgpt.load import (
    load,
    load_decoder,
    load_encoder,
    load_input_projector,
    load_language_model,
    load_output_projector,
)
from nodes.nextgpt.lora import apply_lora
from nodes.nextgpt.message import message
from nodes.nextgpt.project_in import project_in
from nodes.nextgpt.project_out import project_out
from nodes.nextgpt.projector_file import (
    identity_input_projector,
    load_input_projector_file,
    load_output_projector_file,
)
from nodes.nextgpt.reason import reason
from nodes.nextgpt.route import route
from nodes.nextgpt.trace_picture import trace_picture
from nodes.nextgpt.training.data.build_node import (
    build_mosit,
    dialogue_request,
    dialogues_by_template,
    dialogues_from_text,
    wanted_media,
)
from nodes.nextgpt.training.data.review_node import balance, find_duplicates, preview_data
from nodes.nextgpt.training.evaluation.evaluate_node import evaluate
from nodes.nextgpt.training.train_node import loss_curve, train
from nodes.nextgpt.trim import trim_conversation
from nodes.nextgpt.upscale_video import load_upscaler, upscale_video
from nodes.nextgpt.vision_tower import load_vision_tower

LIBRARIES = (
    "torch",
    "nodes.nextgpt.model.imagebind",
    "nodes.nextgpt.model.preprocess",
    "nodes.nextgpt.model.generation",
    "transformers.models.llama.modeling_llama",
    "nodes.nextgpt.model.input_projector",
    "nodes.nextgpt.model.output_projector",
    "nodes.nextgpt.model.image_decoder",
    "nodes.nextgpt.model.video_decoder",
    "nodes.nextgpt.model.audio_decoder",
    "diffusers.models.unets.unet_3d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.speecht5.modeling_speecht5",
    "nodes.nextgpt.model.sampling",
    "nodes.nextgpt.model.preview",
    "custom_kernels.plug",
)
"""What a turn of `any_to_any` imports, in the order in which it does."""

__all__ = [
    "apply_lora",
    "assemble",
    "audio_to_latent",
    "balance",
    "build_mosit",
    "caption_route",
    "captions",
    "conversation",
    "decode_audio",
    "decode_image",
    "decode_video",
    "dialogue_request",
    "dialogues_by_template",
    "dialogues_from_text",
    "encode_audio",
    "encode_caption",
    "encode_conversation",
    "encode_depth",
    "encode_image",
    "encode_imu",
    "encode_text",
    "encode_thermal",
    "encode_video",
    "evaluate",
    "find_duplicates",
    "findings",
    "identity_input_projector",
    "image_to_latent",
    "latent_to_audio",
    "latent_to_image",
    "latent_to_video",
    "load",
    "load_causal_lm",
    "load_conversation",
    "load_decoder",
    "load_encoder",
    "load_input_projector",
    "load_input_projector_file",
    "load_language_model",
    "load_output_projector",
    "load_output_projector_file",
    "load_text_encoder",
    "load_upscaler",
    "load_vision_tower",
    "loss_curve",
    "message",
    "preview_data",
    "project_in",
    "project_out",
    "reason",
    "route",
    "sample_audio",
    "sample_image",
    "sample_video",
    "save_conversation",
    "trace_picture",
    "train",
    "trim_conversation",
    "upscale_video",
    "video_to_latent",
    "wanted_media",
]
