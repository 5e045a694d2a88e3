"""The Fréchet distance between two sets of embeddings: FID's and FAD's formula, here in the encoder's own space."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def frechet(a: Tensor, b: Tensor) -> float:
    """Of sets "N D" and "M D" taken as normal distributions: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

    Raises ValueError for fewer than two of either.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a distance between distributions needs two of each at least, got {len(a)} and {len(b)}")
    x, y = a.double().numpy(), b.double().numpy()
    mean = x.mean(0) - y.mean(0)
    c, d = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # tr (C C')^(1/2) is the sum of the square roots of the product's eigenvalues, which are real and not negative.
    roots = np.sqrt(np.clip(np.linalg.eigvals(c @ d).real, 0, None)).sum()
    return max(0.0, float(mean @ mean + np.trace(c) + np.trace(d) - 2 * roots))
