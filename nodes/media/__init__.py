"""Nodes that read, show, save and edit pictures, sound, video and text. Codecs load when they are first used."""

from __future__ import annotations

from nodes.media.audio import load_audio, preview_audio, save_audio
from nodes.media.audio_edit import (
    audio_info,
    concat_audio,
    convert_channels,
    fade_audio,
    gain_audio,
    mix_audio,
    resample_audio,
    silence,
    trim_audio,
)
from nodes.media.image import load_image, preview_image, save_image
from nodes.media.image_batch import (
    concat_images,
    image_batch,
    image_info,
    images_to_list,
    list_to_images,
    select_images,
)
from nodes.media.image_edit import (
    adjust_image,
    blur_image,
    composite_images,
    crop_image,
    invert_image,
    resize_image,
    solid_image,
    turn_image,
)
from nodes.media.mask import image_to_mask, invert_mask, join_alpha, load_mask, mask_to_image
from nodes.media.narrate import narrate
from nodes.media.text import load_text, save_text, show_text
from nodes.media.video import load_video, preview_video, save_video
from nodes.media.video_edit import (
    concat_video,
    extract_audio,
    extract_frames,
    images_to_video,
    mux,
    resample_video,
    resize_video,
    trim_video,
    video_info,
)

__all__ = [
    "adjust_image",
    "audio_info",
    "blur_image",
    "composite_images",
    "concat_audio",
    "concat_images",
    "concat_video",
    "convert_channels",
    "crop_image",
    "extract_audio",
    "extract_frames",
    "fade_audio",
    "gain_audio",
    "image_batch",
    "image_info",
    "image_to_mask",
    "images_to_list",
    "images_to_video",
    "invert_image",
    "invert_mask",
    "join_alpha",
    "list_to_images",
    "load_audio",
    "load_image",
    "load_mask",
    "load_text",
    "load_video",
    "mask_to_image",
    "mix_audio",
    "mux",
    "narrate",
    "preview_audio",
    "preview_image",
    "preview_video",
    "resample_audio",
    "resample_video",
    "resize_image",
    "resize_video",
    "save_audio",
    "save_image",
    "save_text",
    "save_video",
    "select_images",
    "show_text",
    "silence",
    "solid_image",
    "trim_audio",
    "trim_video",
    "turn_image",
    "video_info",
]
