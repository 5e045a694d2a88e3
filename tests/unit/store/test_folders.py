"""A name becomes a path in one place, and no name leads out of its folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from graph_engine.errors import NotFoundError, PathError
from graph_engine.store.folders import Folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    found = Folders(tmp_path / "in", tmp_path / "out", tmp_path / "temp")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "inner").mkdir()
    (tmp_path / "in/cat.png").write_bytes(b"cat")
    (tmp_path / "in/sub").mkdir()
    (tmp_path / "in/sub/dog.png").write_bytes(b"dog")
    (tmp_path / "in/way_out").symlink_to(tmp_path)
    (tmp_path / "in/secret_link").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "in/link_link").symlink_to("secret_link")
    (tmp_path / "in/loop_a").symlink_to("loop_b")
    (tmp_path / "in/loop_b").symlink_to("loop_a")
    (tmp_path / "in/inside_link").symlink_to(tmp_path / "in/sub/dog.png")
    return found


ESCAPES = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "//etc/passwd",
    "../secret.txt",
    "sub/../../secret.txt",
    "sub/../..",
    "nowhere/../../secret.txt",
    "./../in/../secret.txt",
    "way_out/secret.txt",
    "way_out",
    "secret_link",
    "link_link",
    "sub/../way_out/secret.txt",
    "loop_a",
    "loop_a/x",
    "cat.png\x00.txt",
    "\x00",
    "\ud800",
    "a" * 256,
    "ü" * 128,
    "sub/" + "a" * 256 + "/b",
    "a/" * 513,
    "../in_evil/x",
]


@pytest.mark.parametrize("name", ESCAPES, ids=lambda name: repr(name)[:40])
def test_no_name_leads_out(folders: Folders, name: str) -> None:
    for attempt in (
        lambda: folders.resolve("input", name),
        lambda: folders.existing(name),
        lambda: folders.fresh("input", name, "png"),
    ):
        with pytest.raises(PathError) as caught:
            attempt()
        assert caught.value.problem.remedy
    assert folders.digest(name) == ""


@pytest.mark.parametrize("name", ["output/../../secret.txt", "output/way_out/secret.txt", "temp/../../secret.txt"])
def test_the_way_into_other_folders_is_no_way_out(folders: Folders, tmp_path: Path, name: str) -> None:
    (tmp_path / "out/way_out").symlink_to(tmp_path)
    with pytest.raises(PathError):
        folders.existing(name)


def test_a_folder_beside_with_a_longer_name_is_outside(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "in_evil").mkdir()
    (tmp_path / "in_evil/x").write_text("x")
    with pytest.raises(PathError):
        folders.existing("../in_evil/x")


def test_unknown_folders_are_refused(folders: Folders) -> None:
    with pytest.raises(PathError, match="no folder 'models'"):
        folders.resolve("models", "x")


def test_a_link_that_stays_inside_is_followed(folders: Folders) -> None:
    assert folders.existing("inside_link").read_bytes() == b"dog"


@pytest.mark.parametrize(
    "name", ["sub/../cat.png", "./cat.png", "sub//dog.png", "C:\\x", "ü ä", "a\nb", ".hidden", "..."]
)
def test_odd_names_stay_inside(folders: Folders, tmp_path: Path, name: str) -> None:
    assert folders.resolve("input", name).is_relative_to(tmp_path / "in")


def test_existing_files_are_found_in_the_other_folders_too(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "out/made.png").write_bytes(b"made")
    (tmp_path / "temp/t.png").write_bytes(b"t")
    assert folders.existing("cat.png").read_bytes() == b"cat"
    assert folders.existing("output/made.png").read_bytes() == b"made"
    assert folders.existing("temp/t.png").read_bytes() == b"t"
    (tmp_path / "in/output").mkdir()
    (tmp_path / "in/output/made.png").write_bytes(b"nearer")
    assert folders.existing("output/made.png").read_bytes() == b"nearer"
    for name in ("dog.png", "sub", "made.png", "output/none.png", "output/", "input/cat.png/x", "cat.png/x"):
        with pytest.raises(NotFoundError) as caught:
            folders.existing(name)
        assert caught.value.problem.code == "file_not_found"


def test_existing_folders_are_found_in_the_same_way(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "out/sets/one").mkdir(parents=True)
    assert folders.existing_folder("sub") == tmp_path / "in/sub"
    assert folders.existing_folder("output/sets/one") == tmp_path / "out/sets/one"
    for name in ("cat.png", "none", "sets", "output/none", "output/"):
        with pytest.raises(NotFoundError) as caught:
            folders.existing_folder(name)
        assert caught.value.problem.code == "folder_not_found"
    for name in ("..", "../in_evil", ".", "", "sub/../..", "\x00", str(tmp_path)):
        with pytest.raises(PathError):
            folders.existing_folder(name)


# --- fresh --------------------------------------------------------------------------------------------------------------


def test_fresh_names_count_on(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "out/cat_00041.png").touch()
    (tmp_path / "out/cat_9.jpg").touch()
    (tmp_path / "out/cat_x_00099.png").touch()
    assert [folders.fresh("output", "cat", suffix).name for suffix in ("png", ".png", "jpg")] == [
        "cat_00042.png",
        "cat_00043.png",
        "cat_00044.jpg",
    ]
    assert folders.fresh("output", "deep/er/cat", "png") == tmp_path / "out/deep/er/cat_00001.png"
    assert folders.fresh("temp", "cat", "png") == tmp_path / "temp/cat_00001.png"
    assert (tmp_path / "out/cat_00042.png").read_bytes() == b""


def test_a_new_engine_counts_on_where_the_last_one_was(folders: Folders, tmp_path: Path) -> None:
    folders.fresh("output", "cat", "png")
    again = Folders(tmp_path / "in", tmp_path / "out", tmp_path / "temp")
    assert again.fresh("output", "cat", "png").name == "cat_00002.png"


def test_names_made_at_once_are_distinct(folders: Folders, tmp_path: Path) -> None:
    """Two objects over one folder, as two processes would have: only the file system can tell them apart."""
    other = Folders(tmp_path / "in", tmp_path / "out", tmp_path / "temp")
    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit((folders, other)[n % 2].fresh, "output", "x/cat", "png") for n in range(200)]
        paths = [future.result() for future in futures]
    assert len(set(paths)) == 200
    assert all(path.exists() for path in paths)


@pytest.mark.parametrize("suffix", ["", ".", "p/g", "../x", "png\n", "p.ng", "a" * 17, "p\x00"])
def test_a_suffix_is_letters_and_digits(folders: Folders, suffix: str) -> None:
    with pytest.raises(PathError, match="file suffix"):
        folders.fresh("output", "cat", suffix)


def test_a_name_that_grows_too_long_with_its_number_is_refused(folders: Folders, tmp_path: Path) -> None:
    assert folders.fresh("output", "a" * 240, "png").exists()
    with pytest.raises(PathError):
        folders.fresh("output", "a" * 250, "png")


def test_a_name_below_a_file_is_refused(folders: Folders) -> None:
    for name in ("cat.png/x", "cat.png/x/y"):
        with pytest.raises(PathError, match="below a file"):
            folders.fresh("input", name, "png")


# --- describe and digest ------------------------------------------------------------------------------------------------


def test_a_file_is_described_by_folder_and_name(folders: Folders, tmp_path: Path) -> None:
    path = folders.fresh("output", "deep/cat", "png")
    path.write_bytes(b"12345")
    assert folders.describe(path, "image/png", width=3) == {
        "folder": "output",
        "name": "deep/cat_00001.png",
        "media_type": "image/png",
        "bytes": 5,
        "width": 3,
    }
    for outside in (tmp_path / "secret.txt", tmp_path / "out/../secret.txt", tmp_path / "in/secret_link"):
        with pytest.raises(PathError):
            folders.describe(outside, "text/plain")


def test_a_digest_follows_the_content(folders: Folders, tmp_path: Path) -> None:
    path = tmp_path / "in/cat.png"
    first = folders.digest("cat.png")
    assert len(first) == 32
    assert folders.digest("sub/../cat.png") == first
    path.write_bytes(b"tac")
    os.utime(path, (1, 1))
    second = folders.digest("cat.png")
    assert second != first
    path.write_bytes(b"cat")
    os.utime(path, (2, 2))
    assert folders.digest("cat.png") == first
    (tmp_path / "in/copy.png").write_bytes(b"cat")
    assert folders.digest("copy.png") == first
    path.unlink()
    assert folders.digest("cat.png") == ""


def test_a_digest_is_read_once(folders: Folders, tmp_path: Path) -> None:
    path = tmp_path / "in/cat.png"
    first = folders.digest("cat.png")
    facts = path.stat()
    path.write_bytes(b"dog")
    os.utime(path, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    assert folders.digest("cat.png") == first, "size and time are the same, so the file must not be read again"
