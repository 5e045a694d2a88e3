"""The tensors of published files in the form that a `LanguageModel` has.

Files of transformers leave out what is tied, name things by older conventions, and know nothing of signal tokens.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .language import PREFIX, LanguageModel


def fitted(model: LanguageModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors`, keys with the prefix `causal.`, so that they fill `model`, which may be on the meta device.

    * Keys of older conventions (without the base model's prefix, experts one by one) get their present names. What
      fits nowhere stays as it is, so that the loader can name it.
    * Where the configuration says that the files have fewer rows than the model (`grown_from`), the vocabulary grows
      by mean rows.
    * Tied tensors are entered under both names.

    Of tensors on the meta device (a check by headers alone) names and shapes are looked at, older names are not known.
    Raises ValueError for a vocabulary of another size, and for two different tensors where the configuration ties them.
    """
    tied = {PREFIX + copy: PREFIX + original for copy, original in model.causal.all_tied_weights_keys.items()}
    found = dict(tensors)
    have_values = not any(tensor.is_meta for tensor in found.values())
    if have_values and set(found) | set(tied) != set(model.state_dict()):
        found = _renamed(model, found)
    _check_vocabulary(model, found)
    if model.config.grown_from is not None:
        found = _grown(model, found)
    for copy, original in tied.items():
        if original not in found:
            continue
        if have_values and copy in found and not torch.equal(found[copy], found[original]):
            raise ValueError(
                f"the configuration ties {copy} to {original}, but the files hold two different tensors; "
                "set tie_word_embeddings to false in config.json"
            )
        found[copy] = found[original]
    return found


def _check_vocabulary(model: LanguageModel, tensors: Mapping[str, Tensor]) -> None:
    for key in vocabulary_keys(model):
        rows = tensors[key].shape[0] if key in tensors else model.vocab_size
        if rows not in (model.vocab_size, model.config.grown_from):
            raise ValueError(
                f"the weight files hold a vocabulary of {rows} tokens ({key.removeprefix(PREFIX)}), the model needs "
                f"{model.config.grown_from or model.vocab_size}: they are of another base, or were saved with other "
                "signal tokens; take weights, config.json and tokenizer from one checkpoint"
            )


def vocabulary_keys(model: LanguageModel) -> list[str]:
    """The keys of the tensors with a row per token: embeddings, output layer and its bias."""
    layers = [model.causal.get_input_embeddings(), model.causal.get_output_embeddings()]
    return [
        f"{PREFIX}{name}.{parameter}"
        for name, module in model.causal.named_modules()
        if any(module is layer for layer in layers)
        for parameter, _ in module.named_parameters(recurse=False)
    ]


def _grown(model: LanguageModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every new row is the mean of the old ones (specs: both published generations but the first did so)."""
    rows, old = model.vocab_size, model.config.grown_from
    grown = {}
    for key in vocabulary_keys(model):
        tensor = tensors.get(key)
        if tensor is not None and tensor.shape[0] == old != rows:
            mean = tensor.mean(dim=0, keepdim=True, dtype=torch.float32).to(tensor.dtype)
            grown[key] = torch.cat([tensor, mean.expand(rows - old, *tensor.shape[1:])])
    return {**tensors, **grown}


def _renamed(model: LanguageModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers knows the conventions of its families: it loads the tensors, by reference, and we take its names."""
    plain = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    with _quiet():
        loaded, report = type(model.causal).from_pretrained(
            None,
            config=model.config.of_files().transformers_config(),
            state_dict=dict(plain),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    misshapen = {entry[0] for entry in report["mismatched_keys"]}
    # What transformers filled in by itself is no weight of the files; what it could not use is not ours to hide.
    invented = set(report["missing_keys"]) | misshapen
    kept = {key: tensor.detach() for key, tensor in loaded.state_dict().items() if key not in invented}
    left = {key: plain[key] for key in (*report["unexpected_keys"], *misshapen) if key in plain}
    return {PREFIX + key: tensor for key, tensor in {**kept, **left}.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no table of keys on the terminal; the loader reports them."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def settings_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a `config.json` that say how the network is built; the rest speaks of files and libraries."""
    other = {
        "model_type",
        "architectures",
        "auto_map",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "custom_pipelines",
    }
    return {key: value for key, value in data.items() if key not in other and not key.startswith("_")}
