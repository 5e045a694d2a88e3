"""Which models are on which device, in numbers: for whoever looks at the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graph_engine.memory.pool import ModelPool
    from graph_engine.memory.residency import Residency


def census(pool: ModelPool, residency: Residency) -> dict[str, Any]:
    """Of one device, with the pool's lock held: budget, used, reserved, and each model: bytes that are counted for it, leases,
    how many uses of models later it is used again as far as plans say (None: never), and whether it is resident, streaming
    (then what is kept, and what every pass copies) or loading."""
    return {
        "device": residency.device,
        "budget_bytes": residency.budget_bytes,
        "used_bytes": residency.used_bytes,
        "reserved_bytes": residency.reserved_bytes,
        "brought_ahead": pool.ahead.brought,
        "used_ahead": pool.ahead.used,
        "models": [
            {
                "key": key,
                "family": pool.families.get(key, ""),
                "bytes": resident.bytes,
                "weight_bytes": pool.known.found.get(key, resident.bytes),
                "beside_bytes": resident.beside_bytes,
                "leases": resident.leases,
                "next_use": residency.next_use(key),
                **_state(pool, residency.device, key),
            }
            for key, resident in residency.residents.items()
        ],
    }


def _state(pool: ModelPool, device: str, key: str) -> dict[str, Any]:
    streamed = pool.streamed.get((device, key))
    if streamed is None:
        return {"state": "resident" if (device, key) in pool.modules else "loading"}
    return {
        "state": "streaming" if streamed.streamed_bytes else "resident",
        "kept_bytes": streamed.kept_bytes,
        "streamed_bytes": streamed.streamed_bytes,
        "misses": streamed.misses,
    }
