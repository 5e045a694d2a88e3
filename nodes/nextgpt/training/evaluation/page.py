"""The report of an evaluation: one page with its figures and sample sheets."""

from __future__ import annotations

import hashlib
import html
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from nodes.nextgpt.locate import locate
from nodes.nextgpt.training.evaluation.evaluate import Evaluation
from nodes.nextgpt.training.evaluation.figures import BARS, missed
from nodes.nextgpt.training.evaluation.sheet import sheet
from nodes.nextgpt.training.parts import Parts

SHOWN = 20
"""Samples of each kind."""
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;color:#222}
table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}
.no{color:#c0392b;font-weight:600}.yes{color:#2e8b57}img{max-width:100%;border:1px solid #ddd}"""


def write_page(evaluation: Evaluation, folder: Path, title: str, command: str, weights: str = "") -> Path:
    """`index.html` with a PNG beside it for each kind of prompt that made something. weights: their digest."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    by_kind: dict[str, list[int]] = defaultdict(list)
    for index, outcome in enumerate(evaluation.outcomes):
        by_kind[outcome.prompt.kind].append(index)
    for kind, indices in by_kind.items():
        name = kind.replace(" ", "_")
        entries = [
            (evaluation.outcomes[i].prompt.shown, made.modality, made.value, evaluation.outcomes[i].good)
            for i in indices[:SHOWN]
            for made in evaluation.answers[i].made
        ]
        picture = ""
        if entries:
            sheet(entries).save(folder / f"{name}.png")
            picture = f'<p><img src="{name}.png" alt="{html.escape(kind)}"></p>'
        lines = "".join(
            f"<tr><td>{html.escape(evaluation.outcomes[i].prompt.shown)}</td>"
            f"<td>{html.escape(evaluation.outcomes[i].text)}</td>"
            f"<td class={'yes' if evaluation.outcomes[i].good else 'no'}>{_wrong(evaluation, i)}</td></tr>"
            for i in indices[:SHOWN]
        )
        sections.append(
            f"<h2>{html.escape(kind)}</h2>{picture}<table><tr><th>asked</th><th>said</th><th></th></tr>{lines}</table>"
        )
    page = f"{head(title, command, weights)}{table(evaluation.figures)}{''.join(sections)}</html>"
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def digest_of(parts: Parts) -> str:
    """Of the weight files of a preset as `parts` finds them, so that a report says which weights it is about.

    A part without a file is random, and its seed stands for it.
    """
    found = hashlib.blake2b(digest_size=12)
    for part in sorted(parts.preset.parts):
        own = parts.path(part)
        files = (
            [own] if own.is_file() else [placed.path for placed in locate(parts.preset, part, parts.models_dir).files]
        )
        found.update(f"{part} {'' if files else parts.seed} ".encode())
        for path in files:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).digest())
    return found.hexdigest()


def head(title: str, command: str, weights: str) -> str:
    told = f"<p>Weights <code>{weights}</code></p>" if weights else ""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p><code>{html.escape(command)}</code></p>{told}"
    )


def _wrong(evaluation: Evaluation, index: int) -> str:
    outcome = evaluation.outcomes[index]
    wrong = [name for verdict in outcome.verdicts for name, right in verdict.items() if not right]
    if list(outcome.given) != outcome.prompt.wanted:
        wrong.insert(0, f"gave {', '.join(outcome.given) or 'no media'}")
    return html.escape("right" if outcome.good else ", ".join(wrong))


def table(figures: Mapping[str, float]) -> str:
    lacking = set(missed(figures))
    rows = []
    for name in sorted({*figures, *BARS}, key=lambda entry: (entry not in BARS, entry)):
        value = f"{figures[name]:.3f}" if name in figures else "none"
        bar = f"{BARS[name][0]} {BARS[name][1]:g}" if name in BARS else ""
        mark = ("<span class=no>missed</span>" if name in lacking else "<span class=yes>reached</span>") if bar else ""
        rows.append(f"<tr><td>{name}</td><td>{value}</td><td>{html.escape(bar)}</td><td>{mark}</td></tr>")
    return f"<table><tr><th>figure</th><th>value</th><th>bar</th><th></th></tr>{''.join(rows)}</table>"
