"""Paths never leave their folder: not by dots, not encoded, not by symbolic links; and files never run in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.protocol.live import LiveServer, workflow
from tests.security.raw import ask

pytestmark = pytest.mark.law("P9")
SECRET = b"secret of the machine"


@pytest.fixture
def root(live: LiveServer) -> Path:
    """The input folder, with a secret beside it and every sort of link to it."""
    root = live.engine.folders.roots["input"]
    secret = root.parent / "secret.txt"
    secret.write_bytes(SECRET)
    (root / "sub").mkdir(exist_ok=True)
    (root / "sub" / "fine..png").write_bytes(b"fine")
    for name, to in (("link.txt", secret), ("folder", root.parent), ("loop", root / "loop")):
        if not (root / name).is_symlink():
            (root / name).symlink_to(to)
    return root


@pytest.mark.parametrize(
    "name",
    [
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "%2e%2e%2fsecret.txt",
        "..%252fsecret.txt",
        "sub/../../secret.txt",
        "sub%2f..%2f..%2fsecret.txt",
        "..%5csecret.txt",
        "..\\secret.txt",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "link.txt",
        "folder/secret.txt",
        "folder%2fsecret.txt",
        "loop",
        "%00",
        "x%00.png",
        "..",
        ".",
        "sub",
        "sub/",
        "%ff%fe",
        "%ed%a0%80",
        "x" * 5000,
        "a/" * 600 + "b",
    ],
)
def test_no_name_leads_out_of_its_folder(live: LiveServer, root: Path, name: str) -> None:
    answer = ask(live.port, "GET", f"/api/v1/files/input/{name}")
    assert answer.status in (403, 404)
    assert SECRET not in answer.body
    assert b"root:" not in answer.body
    assert answer.code in ("path_outside", "file_not_found", "not_found")


@pytest.mark.parametrize("folder", ["..", "%2e%2e", "data", "", "input%2f..", "models", "workflows"])
def test_only_three_folders_are_known(live: LiveServer, root: Path, folder: str) -> None:
    for path in (f"/api/v1/files/{folder}/secret.txt", f"/api/v1/files/{folder}"):
        answer = ask(live.port, "GET", path)
        assert answer.status in (403, 404, 405)
        assert SECRET not in answer.body


def test_names_with_dots_are_just_names(live: LiveServer, root: Path) -> None:
    assert ask(live.port, "GET", "/api/v1/files/input/sub/fine..png").body == b"fine"


def test_a_listing_shows_nothing_behind_links_and_no_hidden_files(live: LiveServer, root: Path) -> None:
    (root / ".upload-x.part").write_bytes(b"x")
    names = [file["name"] for file in json.loads(ask(live.port, "GET", "/api/v1/files/input").body)["files"]]
    assert "sub/fine..png" in names
    assert not {"link.txt", "loop", ".upload-x.part"} & set(names)
    assert not [name for name in names if name.startswith("folder")]
    assert ask(live.port, "GET", "/api/v1/files/input/.upload-x.part").status == 404


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xml", "x.js", "x.pdf", "x.xhtml", "x.unknown", "x"])
def test_what_could_carry_a_script_is_only_downloaded(live: LiveServer, root: Path, name: str) -> None:
    (root / name).write_bytes(b"<script>alert(1)</script>")
    headers = ask(live.port, "GET", f"/api/v1/files/input/{name}").headers
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"].startswith("sandbox")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.png", "image/png"), ("x.wav", "audio/wav"), ("x.mp4", "video/mp4"), ("x.txt", "text/plain; charset=utf-8")],
)
def test_media_are_shown_in_place(live: LiveServer, root: Path, name: str, kind: str) -> None:
    (root / name).write_bytes(b"<script>alert(1)</script>")
    headers = ask(live.port, "GET", f"/api/v1/files/input/{name}").headers
    assert headers["content-type"] == kind
    assert headers["content-disposition"].startswith("inline")


def test_a_file_name_cannot_write_headers(live: LiveServer, root: Path) -> None:
    (root / 'a"; b.png').write_bytes(b"x")
    answer = ask(live.port, "GET", "/api/v1/files/input/a%22;%20b.png")
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''a%22%3B%20b.png"
    (root / "a\r\nX-Evil: 1.png").write_bytes(b"x")
    answer = ask(live.port, "GET", "/api/v1/files/input/a%0D%0AX-Evil:%201.png")
    assert "x-evil" not in answer.headers


def test_saved_workflows_stay_in_their_folder(live: LiveServer, tmp_path: Path) -> None:
    own = live.server.house.library.own
    outside = tmp_path / "outside"
    outside.mkdir()
    if not (own / "away").is_symlink():
        (own / "away").symlink_to(outside)
    body = json.dumps(workflow({"a": "trial.echo"})).encode()
    for name in ("..%2f..%2fevil", "%2e%2e%2fevil", "away%2fevil", "away/evil", "%2ftmp%2fevil", "a%00b", ".git%2fx"):
        answer = ask(live.port, "PUT", f"/api/v1/documents/{name}", "Content-Type: application/json", body=body)
        assert answer.status == 403, name
        assert ask(live.port, "GET", f"/api/v1/documents/{name}").status == 403
        assert ask(live.port, "DELETE", f"/api/v1/documents/{name}").status == 403
    assert not list(outside.iterdir())


@pytest.mark.law("P7")
def test_loading_listing_and_validating_runs_no_node_code(live: LiveServer, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    document = workflow({"t": ("trial.touch", {"path": str(mark), "extra": {"__class__": "os.system"}})}, ["t"])
    body = json.dumps(document).encode()
    lines = ("Content-Type: application/json",)
    assert ask(live.port, "PUT", "/api/v1/documents/trap", *lines, body=body).status == 201
    assert ask(live.port, "GET", "/api/v1/documents/trap").status == 200
    assert ask(live.port, "GET", "/api/v1/documents").status == 200
    wrapped = json.dumps({"document": document}).encode()
    assert ask(live.port, "POST", "/api/v1/documents/validate", *lines, body=wrapped).status == 200
    assert not mark.exists()
    assert ask(live.port, "POST", "/api/v1/runs?wait_s=10", *lines, body=wrapped).status == 200
    assert mark.exists()
