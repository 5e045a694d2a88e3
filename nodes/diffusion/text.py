"""Encode text: words to the condition that a denoiser follows."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from graph_engine import Conditioning, Needs, NodeContext, NodeError, Widget, node
from graph_engine.models.spec import ModelSpec
from nodes.diffusion.checkpoint import SHARED_TOKENIZER
from nodes.diffusion.hearing import conditioning
from nodes.diffusion.kinds import Clip
from nodes.diffusion.load import CATEGORY, lease
from nodes.diffusion.working import encoders

Text = Annotated[str, Widget(multiline=True, max=20_000, placeholder="what to draw; (words:1.2) are emphasised")]
LongText = Literal["cut", "further rows"]
Pixels = Annotated[int, Widget(min=0, max=16_384, step=8)]
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_TOKENIZER = threading.Lock()
"""Tokenizers of the tokenizers library are shared between threads only one call at a time."""


@node(
    id="diffusion.encode_text",
    version="1.1.0",
    category=CATEGORY,
    needs=Needs(device=True, working_bytes=conditioning, models=encoders),
)
def encode_text(
    context: NodeContext,
    clip: Clip,
    text: Text = "",
    skip: Annotated[int, Widget(min=0, max=11)] = 0,
    width: Pixels = 0,
    height: Pixels = 0,
    long_text: LongText = "cut",
) -> Conditioning:
    """What a denoiser is to draw, as CONDITIONING "1 77 width"; `(words:1.2)` weigh more, `(words:0.8)` less.

    Parentheses that are followed by a number and mean nothing are written `\\(` and `\\)`. skip: so many of the last layers
    are left out. width, height: the size that SDXL is told the picture had; 0 is the size that is drawn. long_text: what
    becomes of a text beyond 75 tokens: it is cut, and the log says so, or goes on in 77 further rows each.
    """
    from nodes.diffusion.lora import patched_encoder

    states: list[Any] = []
    pooled = None
    xl = clip.extras["architecture"] == "sdxl"
    for index, entry in enumerate(clip.extras["encoders"]):
        spec = ModelSpec.from_dict(entry)
        module = patched_encoder(context, lease(context, spec), clip, index)
        # SDXL was trained on the states before the last layer.
        state, summary = _encode(context, module, clip, index, text, skip + 1 if xl else skip, xl, long_text)
        states.append(state)
        pooled = summary if xl else None
    import torch

    facts: dict[str, Any] = {"architecture": clip.extras["architecture"]}
    if pooled is not None:
        facts["pooled_output"] = pooled.float().cpu()
    if width:
        facts["width"] = width
    if height:
        facts["height"] = height
    return [[torch.cat([state.float().cpu() for state in states], dim=-1), facts]]


def _encode(
    context: NodeContext, module: Any, clip: ModelSpec, index: int, text: str, skip: int, raw: bool, long_text: str
) -> tuple[Any, Any]:
    """States "1 77 width" (or a multiple of 77) and, of an encoder with a projection, the summary "1 width" of the first 77.

    raw: states of an inner layer are taken as they are, without the last norm (SDXL).
    """
    import torch

    from nodes.diffusion.model.prompt import row, rows

    config = module.config
    length, layers = config.max_position_embeddings, config.num_hidden_layers
    if skip >= layers:
        raise NodeError(
            f"{skip} layers cannot be left out of {layers}.", remedy="Lower `skip`.", code="out_of_range", port="skip"
        )
    tokenizer = find_tokenizer(clip.extras["tokenizers"][index])
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    own = tokenizer.pad_token_id
    pad = {"own": end if own is None else own, "end": end}.get(clip.extras["pads"][index], clip.extras["pads"][index])

    def encode(piece: str) -> list[int]:
        with _TOKENIZER:
            return list(tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"])

    frame = (encode, length, start, end, pad)
    found = [row(text, *frame)] if long_text == "cut" else rows(text, *frame)
    if max(max(one.ids) for one in found) >= config.vocab_size:
        raise NodeError(
            f"the tokenizer in {clip.extras['tokenizers'][index]} has more words than the text encoder's "
            f"{config.vocab_size}.",
            remedy="Put the checkpoint's own tokenizer there.",
            code="wrong_tokenizer",
            port="clip",
        )
    if found[0].lost and index == 0:
        context.log(f"the text is {found[0].lost} tokens too long for {length - 2}; its end was cut off.")
    ids = [one.ids for one in found]
    weighted = any(weight != 1.0 for one in found for weight in one.weights)
    if weighted:
        ids.append(row("", *frame).ids)
    with torch.no_grad():
        out = module(torch.tensor(ids, device=context.device), output_hidden_states=True)
        if raw or skip:
            state = out.hidden_states[-1 - skip]
            state = state if raw else getattr(module, "text_model", module).final_layer_norm(state)
        else:
            state = out.last_hidden_state
    if weighted:
        # A weight moves each state along the line from the state of the empty text (as ComfyUI does).
        weights = torch.tensor([one.weights for one in found]).to(state)[..., None]
        state = state[-1:] + weights * (state[:-1] - state[-1:])
    embeds = getattr(out, "text_embeds", None)
    return state.flatten(0, 1)[None], None if embeds is None else embeds[:1]


def find_tokenizer(folder: str) -> Any:
    """CLIP's tokenizer from a folder. Raises NodeError that says which files are wanted, and where."""
    path = Path(folder)
    if not any(all((path / name).is_file() for name in names) for names in _VOCABULARIES):
        raise NodeError(
            f"there is no tokenizer in {path}.",
            remedy=f"Put vocab.json and merges.txt (or tokenizer.json) of CLIP there; checkpoints of one file take "
            f"them from the folder {SHARED_TOKENIZER!r} of the models folder.",
            code="model_missing",
            port="clip",
        )
    stamps = tuple(file.stat().st_mtime_ns for file in sorted(path.glob("*.json")))
    return _tokenizer(folder, stamps)


@lru_cache(maxsize=8)
def _tokenizer(folder: str, stamps: tuple[int, ...]) -> Any:
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeError(
            f"the tokenizer in {folder} cannot be read: {error}.",
            remedy="Fetch its files again.",
            code="model_damaged",
            port="clip",
        ) from error
