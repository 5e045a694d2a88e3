"""What the docstring of a node says of its ports, for the tooltips of an editor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache


@cache
def port_words(text: str, names: tuple[str, ...]) -> Mapping[str, str]:
    """What a docstring says of each port: `name: words`, at the beginning of a sentence, up to the next such beginning or the
    end of the paragraph. `width, height: ...` speaks of both."""
    if not names:
        return {}
    one = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    begin = re.compile(rf"(?:^|(?<=[.)]\s))((?:{one})(?:, (?:{one}))*): ")
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(line.strip() for line in paragraph.splitlines())
        begins = list(begin.finditer(flat))
        ends = [*(match.start() for match in begins[1:]), len(flat)]
        for match, end in zip(begins, ends, strict=False):
            words = flat[match.end() : end].strip()
            for name in match[1].split(", "):
                found.setdefault(name, words)
    return found
