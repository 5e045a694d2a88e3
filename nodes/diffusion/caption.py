"""Captions: what is in a picture, by BLIP (arXiv 2201.12086), GIT (arXiv 2205.14100) or ViT-GPT2."""

from __future__ import annotations

from typing import Annotated

from graph_engine import Image, Needs, NodeContext, Widget, node
from nodes.diffusion import bundle
from nodes.diffusion.hearing import captioning
from nodes.diffusion.kinds import Captioner
from nodes.diffusion.load import CATEGORY, Name
from nodes.diffusion.tiny import RECIPE
from nodes.diffusion.working import parts

KINDS = {
    "blip": "BlipForConditionalGeneration",
    "git": "GitForCausalLM",
    "vision-encoder-decoder": "VisionEncoderDecoderModel",
}


@node(
    id="diffusion.load_captioner",
    version=f"1.1.{RECIPE}",
    title="Load captioner",
    category=CATEGORY,
    reads=bundle.reads,
)
def load_captioner(context: NodeContext, name: Name = "tiny-captioner") -> Captioner:
    """BLIP, GIT or ViT-GPT2 (a transformers folder); `tiny-captioner` is made on first use, with random weights."""
    return bundle.load(name, context.models_dir, KINDS, "captioner")


@node(
    id="diffusion.caption",
    title="Caption picture",
    category=CATEGORY,
    needs=Needs(device=True, working_bytes=captioning, models=parts("model")),
)
def caption(
    context: NodeContext,
    image: Image,
    model: Captioner,
    max_new_tokens: Annotated[int, Widget(min=1, max=512)] = 30,
) -> str:
    """What is in a picture, in words; one line for each picture of a batch."""
    import torch

    tokenizer = bundle.processor(model, "AutoTokenizer")
    eye = bundle.processor(model, "AutoImageProcessor")
    module = bundle.module(context, model)
    # Pictures are in 0..1 already, so they must not be divided by 255 again.
    pictures = [picture.expand(-1, -1, 3) if picture.shape[-1] == 1 else picture[..., :3] for picture in image]
    pixels = eye(images=[picture.permute(2, 0, 1) for picture in pictures], do_rescale=False, return_tensors="pt")[
        "pixel_values"
    ]
    with torch.no_grad():
        ids = module.generate(
            pixel_values=pixels.to(next(module.parameters())),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            stopping_criteria=bundle.stopper(context, max_new_tokens),
        )
    return "\n".join(" ".join(text.split()) for text in tokenizer.batch_decode(ids, skip_special_tokens=True))
