"""Which file does what, and which test proves which law, for ARCHITECTURE.md: `python -m docs.house [--check]`.

A file's line is the first sentence of its docstring; a law's tests are those that carry its mark.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

from docs.markers import ROOT, run

ARCHITECTURE = ROOT / "ARCHITECTURE.md"
FOLDERS = (
    "graph_engine",
    "graph_engine/graph",
    "graph_engine/schedule",
    "graph_engine/memory",
    "graph_engine/models",
    "graph_engine/store",
    "graph_engine/execute",
    "graph_engine/client",
    "nodes",
    "nodes/control",
    "nodes/media",
    "nodes/data",
    "nodes/nextgpt",
    "nodes/nextgpt/model",
    "nodes/nextgpt/training",
    "nodes/nextgpt/training/world",
    "nodes/nextgpt/training/judges",
    "nodes/nextgpt/training/stages",
    "nodes/nextgpt/training/data",
    "nodes/nextgpt/training/evaluation",
    "web",
    "web/routes",
    "web/commands",
    "custom_kernels",
    "workflows",
    "docs",
)
LAWS = {
    "P1": "A run that was answered with an id survives any crash of any of our processes.",
    "P2": "A finished step with the same key is not computed again.",
    "P3": "One result per step: late, doubled or re-ordered reports change nothing.",
    "P4": "Cancel ends within one denoising step or the grace time.",
    "P5": "Admitted bytes never exceed a device's budget.",
    "P6": "A failing branch does not take its siblings along.",
    "P7": "Loading a document never runs code.",
    "P8": "The server never unpickles a file.",
    "P9": "A foreign page reaches no route or socket.",
    "P10": "The event loop is never blocked for more than 50 ms.",
    "P11": "A slow reader cannot hold memory: previews coalesce, state events never drop.",
    "P12": "Kernels equal their reference.",
    "P13": "What is saved today opens in ten years: a golden document per version, kept for ever.",
    "P14": "A poisoned run cannot loop: three attempts, then failed with its story.",
}
_MARK = re.compile(r'mark\.law\("(P\d+)"\)')


def house() -> str:
    """A table per folder."""
    parts = []
    for folder in FOLDERS:
        files = sorted((ROOT / folder).glob("*.py"), key=lambda path: (path.name != "__init__.py", path.name))
        rows = [f"| `{path.name}` | {first_sentence(path)} |" for path in files]
        parts.append("\n".join([f"**`{folder}/`**", "", "| file | what it is |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0].rstrip(":")
    return sentence.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


def laws() -> str:
    """Every law with the files whose tests carry its mark."""
    proofs: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for law in _MARK.findall(path.read_text(encoding="utf-8")):
            proofs[law].add(path.relative_to(ROOT).as_posix())
    rows = [
        f"| {law} | {says} | {', '.join(f'[`{name}`]({name})' for name in sorted(proofs[law])) or 'none yet'} |"
        for law, says in LAWS.items()
    ]
    return "\n".join(["| law | says | tests that carry its mark |", "|---|---|---|", *rows])


SECTIONS = {"house": house, "laws": laws}

if __name__ == "__main__":
    sys.exit(run(ARCHITECTURE, SECTIONS, __doc__))
