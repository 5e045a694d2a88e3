"""The tokenizer files of a model folder: `tokenizer.json`, or `tokenizer.model` as the Vicuna repositories ship it.

A `tokenizer.model` is SentencePiece's own format. transformers turns it into the form of `tokenizer.json`; that needs
the packages sentencepiece and protobuf, which are an extra of this one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

EXTRA = "sentencepiece"
"""The extra of this package with what a `tokenizer.model` needs."""


class TokenizerError(ValueError):
    """A tokenizer folder is missing a file or does not fit the model; the message says which and what to do."""


@dataclass(frozen=True)
class TokenizerFiles:
    """path: the file with the vocabulary. settings: tokenizer_config.json, over special_tokens_map.json."""

    path: Path
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path) -> "TokenizerFiles":
        """Raises TokenizerError for a folder without a tokenizer, and for files that are no JSON objects."""
        settings = {**_read(folder / "special_tokens_map.json"), **_read(folder / "tokenizer_config.json")}
        for name in ("tokenizer.json", "tokenizer.model"):
            if (folder / name).is_file():
                return cls(folder / name, settings)
        raise TokenizerError(f"{folder} has neither tokenizer.json nor tokenizer.model")

    @cached_property
    def definition(self) -> dict[str, Any]:
        """What `tokenizer.json` says, or would say. Raises TokenizerError."""
        if self.path.name == "tokenizer.json":
            return _read(self.path)
        return _as_published(json.loads(_converted(self.path.parent)))

    def control(self, name: str) -> str | None:
        """The spelling of "bos_token", "eos_token" ...: as the settings say, else Llama's if the vocabulary has it."""
        entry = self.settings.get(name)
        if isinstance(entry, dict):
            entry = entry.get("content")
        if isinstance(entry, str):
            return entry
        usual = {"bos_token": "<s>", "eos_token": "</s>"}.get(name)
        return usual if name not in self.settings and usual in self._texts else None

    @cached_property
    def _texts(self) -> frozenset[str]:
        added = (token["content"] for token in self.definition.get("added_tokens") or [])
        vocabulary = self.definition.get("model", {}).get("vocab") or {}
        return frozenset(
            [*added, *(vocabulary if isinstance(vocabulary, dict) else (entry[0] for entry in vocabulary))]
        )

    @property
    def chat_template(self) -> str | None:
        """The model's own layout of a conversation, a Jinja text: chat_template.jinja, else the settings' default."""
        path = self.path.with_name("chat_template.jinja")
        if path.is_file():
            return path.read_text(encoding="utf-8")
        template = self.settings.get("chat_template")
        if isinstance(template, list):
            template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
        return template if isinstance(template, str) else None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path} cannot be read ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise TokenizerError(f"{path} holds no JSON object; fetch it again")
    return found


def _converted(folder: Path) -> str:
    """`tokenizer.model` in the form of tokenizer.json, by transformers, which runs no code of the folder."""
    try:
        import google.protobuf  # noqa: F401  (transformers needs both; here it is only seen whether they are there)
        import sentencepiece  # noqa: F401
    except ImportError as error:
        raise TokenizerError(
            f"{folder} has only tokenizer.model, and reading that needs the package {error.name}; "
            f"install the extra: pip install 'anyloom[{EXTRA}]', or put the model's tokenizer.json beside it"
        ) from error
    from transformers import AutoTokenizer, LlamaTokenizer

    named = "tokenizer_class" in _read(folder / "tokenizer_config.json") or (folder / "config.json").is_file()
    kind: Any = AutoTokenizer if named else LlamaTokenizer
    try:
        tokenizer = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # a damaged protobuf, a tokenizer class with code of its own: many kinds of exception
        raise TokenizerError(f"{folder / 'tokenizer.model'} cannot be converted ({error}); fetch it again") from error


def _as_published(definition: dict[str, Any]) -> dict[str, Any]:
    """SentencePiece marks the beginning of every text; transformers leaves that out where the text begins with a space.
    The tokenizer.json that Llama was published with marks always, by its normaliser, and so do we."""
    splitter = definition.get("pre_tokenizer") or {}
    if splitter.get("type") != "Metaspace" or splitter.get("prepend_scheme") == "never" or splitter.get("split"):
        return definition
    mark = splitter["replacement"]
    rules = [
        {"type": "Prepend", "prepend": mark},
        {"type": "Replace", "pattern": {"String": " "}, "content": mark},
    ]
    before = definition.get("normalizer")
    return {
        **definition,
        "normalizer": {"type": "Sequence", "normalizers": [*([before] if before else []), *rules]},
        "pre_tokenizer": None,
    }
