"""Words of a caption to the token ids of a decoder's text encoder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .tokenizer import Tokenizer, TokenizerError


class CaptionTokens(NamedTuple):
    """ids: as the encoder takes them. dropped: how many tokens of the text did not fit."""

    ids: list[int]
    dropped: int


Tokenise = Callable[[str], CaptionTokens]


def shipped_tokens(tokenizer: Tokenizer, kind: str, length: int) -> Tokenise:
    """Tokens of a vocabulary that ships (`Tokenizer.shipped`)."""
    return lambda text: _framed(
        tokenizer.encode(text), tokenizer.bos_id, tokenizer.eos_id, tokenizer.eos_id, kind, length
    )


def folder_tokens(folder: Path, kind: str, length: int) -> Tokenise:
    """Tokens by the `tokenizer` folder of a published decoder (`vocab.json` and `merges.txt`, or `tokenizer.json`).

    What pads a short text is as the folder says: the end token for SD 1.5, "!" for SD 2. Raises TokenizerError for a
    folder without a vocabulary.
    """
    from transformers import CLIPTokenizer, RobertaTokenizer

    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise TokenizerError(f"{folder} has neither vocab.json nor tokenizer.json")
    library: Any = CLIPTokenizer if kind == "clip" else RobertaTokenizer
    try:
        tokenizer = library.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TokenizerError(f"the tokenizer in {folder} cannot be read: {error}") from error

    def tokenise(text: str) -> CaptionTokens:
        words = tokenizer(text, add_special_tokens=False)["input_ids"]
        return _framed(words, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, kind, length)

    return tokenise


def _framed(words: list[int], begin: int, end: int, pad: int, kind: str, length: int) -> CaptionTokens:
    """Begin, as many words as fit, end; CLIP texts are filled up to the full length."""
    room = length - 2
    ids = [begin, *words[:room], end]
    if kind == "clip":
        ids += [pad] * (length - len(ids))
    return CaptionTokens(ids, max(0, len(words) - room))
