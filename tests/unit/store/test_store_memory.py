from __future__ import annotations

import random

import pytest

from graph_engine.errors import StoreError
from graph_engine.graph.outcome import Skip
from graph_engine.store.artifacts import Artifact
from graph_engine.store.memory_store import ENTRY_BYTES, CachePolicy, MemoryStore


def artifact(key: str, size: int = 1000, seconds: float = 1.0) -> Artifact:
    """One that is charged exactly `size` bytes by the store."""
    return Artifact(key, (key,), (None,), size - ENTRY_BYTES, seconds)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("classic", CachePolicy("classic")),
        (" None ", CachePolicy("none")),
        ("lru:100", CachePolicy("lru", 100)),
        ("bytes:500", CachePolicy("bytes", 500)),
        ("bytes:2KB", CachePolicy("bytes", 2048)),
        ("bytes:1.5 mb", CachePolicy("bytes", 3 * 2**19)),
        ("BYTES:4G", CachePolicy("bytes", 4 * 2**30)),
    ],
)
def test_policies_are_parsed(text: str, policy: CachePolicy) -> None:
    assert CachePolicy.parse(text) == policy
    assert CachePolicy.parse(str(policy)) == policy


@pytest.mark.parametrize(
    "text",
    ["", "lru", "lru:0", "lru:-1", "lru:x", "bytes", "bytes:", "bytes:0", "bytes:4PB", "classic:3", "ram", "lru:1.5"],
)
def test_other_policies_are_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(StoreError, match="bytes:4GB") as caught:
        CachePolicy.parse(text)
    assert caught.value.problem.code == "cache_policy"


def test_what_was_put_is_found() -> None:
    store = MemoryStore("bytes:1MB")
    kept = Artifact.of("a", (1, Skip("no")), seconds=0.1)
    assert store.put(kept)
    assert store.contains("a")
    assert not store.contains("b")
    assert store.get("a") is kept
    assert store.get("b") is None
    assert store.shape("a") == (None, Skip("no"))
    assert store.shape("b") is None
    stats = store.stats()
    assert (stats["hits"], stats["misses"], stats["entries"]) == (1, 1, 1)
    assert store.discard("a")
    assert not store.discard("a")
    assert store.stats()["bytes"] == 0
    assert len(store) == 0


def test_putting_again_counts_once() -> None:
    store = MemoryStore("bytes:1MB")
    for _ in range(5):
        store.put(artifact("a", 1000))
    assert store.stats()["bytes"] == 1000
    assert len(store) == 1


def test_lru_drops_what_was_used_longest_ago() -> None:
    store = MemoryStore("lru:3")
    for key in "abc":
        store.put(artifact(key))
    store.get("a")
    store.touch("b")
    store.contains("c")  # no use
    store.put(artifact("d"))
    assert [key for key in "abcd" if store.contains(key)] == ["a", "b", "d"]
    store.put(artifact("e"))
    assert [key for key in "abcde" if store.contains(key)] == ["b", "d", "e"]
    assert store.stats()["evictions"] == 2


def test_lru_matches_the_obvious_model() -> None:
    chance, store, model = random.Random(1), MemoryStore("lru:8"), list[str]()
    for _ in range(3000):
        key = str(chance.randrange(20))
        act = chance.random()
        if act < 0.5:
            store.put(artifact(key))
            model = [*[k for k in model if k != key][-7:], key]
        elif act < 0.9:
            assert (store.get(key) is not None) == (key in model)
            model = [k for k in model if k != key] + [key] * (key in model)
        else:
            store.discard(key)
            model = [k for k in model if k != key]
        assert {str(n) for n in range(20) if store.contains(str(n))} == set(model)


def test_bytes_drops_what_is_cheap_for_its_size_first() -> None:
    store = MemoryStore("bytes:10000")
    store.put(artifact("dear", 4000, seconds=100))
    store.put(artifact("cheap", 4000, seconds=0.01))
    store.put(artifact("new", 4000, seconds=1))
    assert store.contains("dear")
    assert store.contains("new")
    assert not store.contains("cheap")


def test_bytes_prefers_recent_among_equals() -> None:
    store = MemoryStore("bytes:3000")
    for key in "abc":
        store.put(artifact(key, 1000))
    store.get("a")
    store.put(artifact("d", 1000))
    assert [key for key in "abcd" if store.contains(key)] == ["a", "c", "d"]


def test_a_dear_entry_that_is_never_used_ages() -> None:
    store = MemoryStore("bytes:10000")
    store.put(artifact("dear", 1000, seconds=20))
    for number in range(1000):
        store.put(artifact(str(number), 1000, seconds=1))
    assert not store.contains("dear")


def test_a_dear_entry_in_use_stays() -> None:
    store = MemoryStore("bytes:10000")
    store.put(artifact("dear", 1000, seconds=20))
    for number in range(1000):
        store.put(artifact(str(number), 1000, seconds=1))
        assert store.get("dear") is not None


def test_entries_beyond_the_limit_are_not_kept_and_push_nothing_out() -> None:
    store = MemoryStore("bytes:10000")
    store.put(artifact("small", 1000))
    assert not store.put(artifact("huge", 10_001, seconds=1e9))
    assert store.contains("small")
    assert not store.contains("huge")


def test_tiny_entries_count_against_the_limit() -> None:
    store = MemoryStore("bytes:1MB")
    for number in range(10_000):
        store.put(Artifact.of(str(number), (number,)))
    assert len(store) <= 2**20 / ENTRY_BYTES


def test_bytes_never_exceed_the_limit_and_add_up() -> None:
    chance, store = random.Random(2), MemoryStore("bytes:50000")
    sizes: dict[str, int] = {}
    for _ in range(5000):
        key = str(chance.randrange(200))
        sizes.setdefault(key, chance.randrange(ENTRY_BYTES, 9000))
        if chance.random() < 0.7:
            store.put(artifact(key, sizes[key], chance.random()))
        elif chance.random() < 0.8:
            store.get(key)
        else:
            store.discard(key)
        stats = store.stats()
        assert stats["bytes"] <= 50_000
        assert stats["bytes"] == sum(size for key, size in sizes.items() if store.contains(key))


def test_discarding_leaves_no_growing_remains() -> None:
    store = MemoryStore("lru:2")
    for key in ("gone", "also gone", "kept"):
        store.put(artifact(key))
    store.discard("also gone")
    for number in range(20_000):
        store.put(artifact(str(number)))
        store.discard(str(number))
    assert store._heap is not None, "something was evicted, so there is a heap"
    assert len(store._heap) < 5000
    assert store.contains("kept")


def test_a_store_that_never_filled_keeps_no_heap() -> None:
    store = MemoryStore("bytes:1MB")
    for number in range(100):
        store.put(artifact(str(number)))
    assert store._heap is None


def test_classic_keeps_what_the_latest_run_used() -> None:
    store = MemoryStore("classic")
    store.new_generation()
    for key in "abc":
        store.put(artifact(key))
    store.new_generation()  # all were used by the run before
    assert store.contains("a")
    assert store.contains("c")
    store.get("a")
    store.touch("b")
    store.put(artifact("d"))
    store.new_generation()
    assert [key for key in "abcd" if store.contains(key)] == ["a", "b", "d"]
    store.new_generation()
    assert len(store) == 0


def test_none_keeps_nothing() -> None:
    store = MemoryStore("none")
    assert not store.put(artifact("a"))
    assert store.get("a") is None
    assert len(store) == 0


@pytest.mark.parametrize("policy", ["classic", "lru:10", "bytes:1MB"])
def test_clear(policy: str) -> None:
    store = MemoryStore(policy)
    for key in "abc":
        store.put(artifact(key))
    store.clear()
    assert len(store) == 0
    assert store.stats()["bytes"] == 0
    store.put(artifact("a"))
    assert store.contains("a")
