"""The order of freely named ports: natural, so that `value2` comes before `value10`."""

from __future__ import annotations

import re
from collections.abc import Iterable


def natural(names: Iterable[str]) -> list[str]:
    """Sorted by words and numbers. The order of keys in a JSON text must not change a result, so it is not used."""
    return sorted(names, key=lambda name: [(not part.isdigit(), part.zfill(20)) for part in re.split(r"(\d+)", name)])
