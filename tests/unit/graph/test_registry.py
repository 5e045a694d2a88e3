"""Which node types exist, where they come from, and what happens when packs quarrel or break."""

from __future__ import annotations

import importlib.metadata
import types
from pathlib import Path
from typing import Any

import pytest

from graph_engine import node
from graph_engine.errors import NotFoundError, RegistryError
from graph_engine.graph.registry import ENTRY_POINT_GROUP, Registry


@node(id="mine.double")
def double(a: int) -> int:
    return 2 * a


@node(id="mine.half")
def half(a: int) -> int:
    return a // 2


PACK = """
from graph_engine import node

@node(id="{id}")
def work(a: int) -> int:
    return a + {add}
"""


def write(folder: Path, name: str, id: str, add: int = 0) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PACK.format(id=id, add=add))


def test_a_registry_is_a_table_of_ids() -> None:
    registry = Registry([double.node_type, half.node_type])  # type: ignore[attr-defined]
    assert len(registry) == 2
    assert "mine.double" in registry
    assert [type.id for type in registry] == ["mine.double", "mine.half"]
    assert registry["mine.half"] is half.node_type  # type: ignore[attr-defined]
    assert registry.get("mine.third") is None


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("mine.doubel", "Did you mean 'mine.double'"), ("mine.hlf", "'mine.half'"), ("zzz.qqq", "install the pack")],
)
def test_an_unknown_id_is_answered_with_what_was_meant(asked: str, hint: str) -> None:
    registry = Registry([double.node_type, half.node_type])  # type: ignore[attr-defined]
    with pytest.raises(NotFoundError) as caught:
        registry[asked]
    assert caught.value.problem.code == "unknown_node"
    assert asked in caught.value.message
    assert hint in caught.value.problem.remedy


def test_two_packs_that_claim_one_id_are_both_named(tmp_path: Path) -> None:
    write(tmp_path, "first.py", "rival.work")
    write(tmp_path, "second.py", "rival.work")
    with pytest.raises(RegistryError) as caught:
        Registry().add_folder(tmp_path)
    assert "rival.work" in caught.value.message
    assert "anyloom_custom_first:" in caught.value.message
    assert "anyloom_custom_second:" in caught.value.message


def test_the_same_function_may_be_seen_twice() -> None:
    registry = Registry([double.node_type])  # type: ignore[attr-defined]
    module = types.ModuleType("again")
    module.a = module.b = double  # type: ignore[attr-defined]
    module.other = 3  # type: ignore[attr-defined]
    registry.add_module(module)
    assert len(registry) == 1


def test_a_folder_gives_files_and_packages(tmp_path: Path) -> None:
    write(tmp_path, "plain.py", "plain.work", 1)
    write(tmp_path, "parcel/inner.py", "parcel.work", 10)
    (tmp_path / "parcel/__init__.py").write_text("from .inner import work")
    write(tmp_path, "_private.py", "private.work")
    write(tmp_path, ".hidden.py", "hidden.work")
    (tmp_path / "notes.txt").write_text("no code")
    (tmp_path / "empty").mkdir()
    registry = Registry()
    registry.add_folder(tmp_path)
    assert sorted(type.id for type in registry) == ["parcel.work", "plain.work"]
    assert [registry[id].function(a=1) for id in ("plain.work", "parcel.work")] == [2, 11]
    assert registry.failures == {}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from graph_engine import node\n@node(id='bad.sign')\ndef f(a) -> int: ...", "RegistryError: node 'bad.sign'"),
        (
            "from graph_engine import node\n@node(id='noname')\ndef f(a: int) -> int: ...",
            "RegistryError: node 'noname'",
        ),
    ],
    ids=["import", "syntax", "exit", "signature", "id"],
)
def test_one_broken_pack_keeps_no_other_away(tmp_path: Path, code: str, reason: str) -> None:
    write(tmp_path, "alpha.py", "alpha.work")
    (tmp_path / "broken.py").write_text(code)
    write(tmp_path, "omega.py", "omega.work")
    registry = Registry()
    registry.add_folder(tmp_path)
    assert sorted(type.id for type in registry) == ["alpha.work", "omega.work"]
    assert list(registry.failures) == ["broken"]
    assert registry.failures["broken"].startswith(reason)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        Registry().add_folder(tmp_path / "nowhere")


def test_two_registries_share_nothing(tmp_path: Path) -> None:
    write(tmp_path, "pack.py", "shared.work")
    first, second = Registry(), Registry()
    for registry in (first, second):
        registry.add_folder(tmp_path)
    assert first["shared.work"] is not second["shared.work"]
    assert first["shared.work"].function(a=1) == second["shared.work"].function(a=1) == 1


def test_installed_packages_publish_by_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real distribution on the path, as pip would leave it; one of its two packs does not import."""
    write(tmp_path, "registry_trial_pack.py", "trial.work", 5)
    info = tmp_path / "registry_trial-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: registry-trial\nVersion: 1.0\n")
    points = f"[{ENTRY_POINT_GROUP}]\ntrial = registry_trial_pack\ngone = registry_trial_gone\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    wanted = {"trial", "gone"}
    whole = importlib.metadata.entry_points

    def only_ours(**selection: Any) -> Any:
        return [point for point in whole(**selection) if point.name in wanted]

    monkeypatch.setattr(importlib.metadata, "entry_points", only_ours)  # the real ones import torch
    write(tmp_path, "folder/custom.py", "custom.work")
    registry = Registry.discover([tmp_path / "folder"])
    assert sorted(type.id for type in registry) == ["custom.work", "trial.work"]
    assert registry["trial.work"].function(a=1) == 6
    assert list(registry.failures) == ["gone"]
    assert "registry_trial_gone" in registry.failures["gone"]
