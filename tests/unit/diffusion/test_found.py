"""Names of files: what leaves the models folder is neither opened nor looked at for a content key."""

from __future__ import annotations

import pytest

from nodes.diffusion import apply_lora, load_checkpoint, load_controlnet, load_video
from nodes.diffusion.autoencoder import load_vae
from nodes.diffusion.found import candidates

LOADERS = (load_checkpoint, load_controlnet, load_vae, load_video, apply_lora)


@pytest.mark.parametrize("name", ["", " ", "/etc/passwd", "../other", "a/../../b", "../*"])
def test_a_name_that_is_refused_means_no_file(name: str) -> None:
    assert list(candidates(name, ("vae",))) == []
    for loader in LOADERS:
        named = loader.node_type.reads({"name": name})  # type: ignore[attr-defined]
        assert not [file for file in named if ".." in file or file.startswith("/")], loader.__name__


def test_a_name_means_what_is_there_by_it_and_in_the_places_for_it() -> None:
    assert list(candidates("a", ("vae",))) == ["a", "a.safetensors", "vae/a", "vae/a.safetensors"]
    assert list(candidates("b.safetensors", ("vae",))) == ["b.safetensors", "vae/b.safetensors"]
