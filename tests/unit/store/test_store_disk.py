from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from graph_engine.errors import StoreError
from graph_engine.graph.outcome import Skip
from graph_engine.store.artifacts import Artifact, ListShape
from graph_engine.store.disk_store import DiskStore

BIG = 2**30
ROOT = Path(__file__).parents[3]


def artifact(key: str, size: int = 0) -> Artifact:
    return Artifact.of(key, (key, b"x" * size), seconds=0.5)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_put_is_found_by_the_next_process(tmp_path: Path) -> None:
    outputs = (torch.arange(5), [1, Skip("no")], Skip("none"))
    DiskStore(tmp_path, BIG).put(Artifact.of("ab12", outputs, (False, True, False), seconds=2.0))
    store = DiskStore(tmp_path, BIG)
    assert store.contains("ab12")
    assert not store.contains("ab13")
    stored = store.shape("ab12")
    assert stored is not None
    assert stored.shape == (None, ListShape(2, frozenset({1})), Skip("none"))
    found = store.get("ab12")
    assert found is not None
    assert torch.equal(found.outputs[0], outputs[0])
    assert found.outputs[1:] == outputs[1:]
    assert (found.seconds, found.bytes) == (2.0, stored.bytes)
    assert store.get("ab13") is None
    assert (store.stats()["hits"], store.stats()["misses"]) == (1, 1)


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a/../b",
        "",
        "a\x00b",
        "~abc",
        "A" * 3,
        "a" * 5000,
        "�",
        "x y\n",
        "0f:1#2-a.b",
        ".writing-1-1-aa",
    ],
)
def test_no_key_leaves_the_folder(tmp_path: Path, key: str) -> None:
    store = DiskStore(tmp_path / "in", BIG)
    assert store.put(artifact(key))
    assert store.contains(key)
    (path,) = files(tmp_path)
    assert path.parent.parent == tmp_path / "in"
    again = DiskStore(tmp_path / "in", BIG)
    found = again.get(key)
    assert found is not None
    assert found.key == key
    assert len(again.shapes) == 1


def test_keys_that_differ_have_files_that_differ(tmp_path: Path) -> None:
    store, keys = DiskStore(tmp_path, BIG), ["a/b", "a:b", "a#b", "a-b", "A-B", "a-b.artifact", "~a"]
    for key in keys:
        store.put(artifact(key))
    assert len(files(tmp_path)) == len(keys)
    assert [found.key for key in keys if (found := store.get(key))] == keys


def test_a_damaged_file_is_removed_and_a_miss(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, BIG)
    for position in (3, 20, 45, 100, -1):
        store.put(artifact("ab", 5000))
        (path,) = files(tmp_path)
        data = bytearray(path.read_bytes())
        data[position] ^= 16
        path.write_bytes(data)
        assert store.get("ab") is None
        assert not store.contains("ab")
        assert files(tmp_path) == []


@pytest.mark.parametrize("length", [0, 10, 40, 60, 5000])
def test_a_file_cut_short_is_not_listed(tmp_path: Path, length: int) -> None:
    DiskStore(tmp_path, BIG).put(artifact("ab", 9000))
    (path,) = files(tmp_path)
    os.truncate(path, length)
    store = DiskStore(tmp_path, BIG)
    assert not store.contains("ab")
    assert len(store.shapes) == 0
    assert files(tmp_path) == []


def test_a_file_under_the_wrong_name_is_not_served(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, BIG)
    store.put(artifact("ab"))
    (path,) = files(tmp_path)
    other = Path(store._path("cd"))
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    assert not store.contains("cd")
    assert store.get("cd") is None
    assert store.contains("ab")


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "thesis.txt").write_text("mine")
    (tmp_path / "ab" / "folder.artifact").mkdir()
    store = DiskStore(tmp_path, 1000)
    store.put(artifact("a", 900))
    store.put(artifact("b", 900))
    store.clear()
    assert files(tmp_path) == [tmp_path / "ab" / "thesis.txt"]


def test_the_quota_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 5000)
    for key in "abcd":
        store.put(artifact(key, 1040))
    store.get("a")
    store.put(artifact("b", 1040))  # present already: a use
    store.put(artifact("e", 1040))
    assert [key for key in "abcde" if store.contains(key)] == ["a", "b", "d", "e"]
    assert store.stats()["bytes"] == sum(path.stat().st_size for path in files(tmp_path)) <= 5000
    assert store.stats()["evictions"] == 1


def test_the_order_of_use_survives_the_process(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, BIG)
    for key in "abc":
        store.put(artifact(key, 1000))
        time.sleep(0.01)
    store.get("a")
    again = DiskStore(tmp_path, BIG)
    assert list(again.shapes) == ["b", "c", "a"]
    small = DiskStore(tmp_path, 1500)  # a lowered quota holds from the start
    assert list(small.shapes) == ["a"]
    assert len(files(tmp_path)) == 1


def test_what_exceeds_the_quota_alone_is_not_kept(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 2000)
    store.put(artifact("a", 100))
    assert not store.put(artifact("b", 3000))
    assert store.contains("a")
    assert not store.contains("b")
    assert len(files(tmp_path)) == 1


def test_outputs_without_a_form_on_disk_leave_nothing_behind(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, BIG)
    with pytest.raises(StoreError, match=r"outputs\[0\]"):
        store.put(Artifact.of("a", (object(),)))
    assert files(tmp_path) == []
    assert not store.contains("a")


def test_two_stores_share_a_folder(tmp_path: Path) -> None:
    one, other = DiskStore(tmp_path, BIG), DiskStore(tmp_path, BIG)
    one.put(artifact("a"))
    assert other.contains("a")
    assert other.get("a") is not None
    one.discard("a")
    assert other.get("a") is None
    assert not other.contains("a")
    assert other.put(artifact("a"))
    assert one.contains("a")
    one.discard("a")
    assert "a" in other.shapes
    assert other.put(artifact("a"))
    assert len(files(tmp_path)) == 1


def test_old_leftovers_are_removed_and_young_ones_kept(tmp_path: Path) -> None:
    (tmp_path / "00").mkdir()
    old, young = tmp_path / "00" / ".writing-1-0-aa", tmp_path / "00" / ".writing-2-0-bb"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store = DiskStore(tmp_path, BIG)
    assert not old.exists()
    assert young.exists()
    assert len(store.shapes) == 0


def test_an_emptied_folder_is_made_again(tmp_path: Path) -> None:
    import shutil

    store = DiskStore(tmp_path / "in", BIG)
    store.put(artifact("a"))
    shutil.rmtree(tmp_path / "in")
    assert store.get("a") is None
    assert store.put(artifact("a"))
    assert store.get("a") is not None


def test_an_unusable_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be read") as caught:
        DiskStore(tmp_path / "file", BIG)
    assert caught.value.problem.remedy


def test_clear_and_discard(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, BIG)
    DiskStore(tmp_path, BIG).put(artifact("other"))
    store.put(artifact("a"))
    assert store.discard("a")
    assert not store.discard("a")
    store.clear()
    assert files(tmp_path) == []
    assert store.stats()["bytes"] == 0


def test_threads_may_use_it_at_once(tmp_path: Path) -> None:
    store, failures = DiskStore(tmp_path, 40_000), list[str]()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(150):
                key = str(chance.randrange(30))
                if chance.random() < 0.5:
                    store.put(artifact(key, 2000))
                elif (found := store.get(key)) is not None and found.outputs[0] != key:
                    failures.append(key)
                if chance.random() < 0.02:
                    store._scan()
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store._scan()
    assert store.stats()["bytes"] == sum(path.stat().st_size for path in files(tmp_path)) <= 40_000


CHILD = """
import random, sys
from graph_engine.store.artifacts import Artifact
from graph_engine.store.disk_store import DiskStore
store, chance = DiskStore(sys.argv[1], 60_000), random.Random(int(sys.argv[2]))
served = 0
for _ in range(400):
    key = str(chance.randrange(25))
    if chance.random() < 0.4:
        store.put(Artifact.of(key, (key, key.encode() * 1500)))
    elif chance.random() < 0.1:
        store.discard(key)
    else:
        found = store.get(key)
        assert found is None or found.outputs == (key, key.encode() * 1500)
        served += found is not None
print(served)
"""


def test_processes_may_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    children = [
        subprocess.Popen([*command, str(seed)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    answers = [child.communicate(timeout=60) for child in children]
    assert all(child.returncode == 0 for child in children), answers
    assert all(int(served) > 20 for served, _ in answers)
    store = DiskStore(tmp_path, BIG)
    assert {found.outputs[0] for key in list(store.shapes) if (found := store.get(key))} == set(store.shapes)
    assert not [path for path in files(tmp_path) if path.name.startswith(".writing")]
