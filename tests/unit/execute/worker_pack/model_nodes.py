"""Nodes with small real models and values, for processes of devices."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

from graph_engine import LAZY, AnyValue, Grow, Need, Needs, NodeContext, node
from graph_engine.graph.kinds import InputProjector
from graph_engine.graph.outcome import UNSET
from graph_engine.models.spec import ModelSpec, WeightFile

DEVICE = Needs(device=True)


@node(id="v.load")
def load(context: NodeContext, name: str, layers: int = 1) -> InputProjector:
    """So many linear layers of 64 by 64, of the file `name`.safetensors."""
    file = WeightFile.of(context.models_dir / f"{name}.safetensors")
    mode = {"mode": "mlp", "mlp_layers": layers} if layers > 1 else {"mode": "linear"}
    return ModelSpec("nextgpt.input_projector", {**mode, "in_dim": 64, "out_dim": 64}, (file,))


def _use(context: NodeContext, model: Any, seconds: float) -> float:
    import torch

    module = context.model(model)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        context.progress(1, 2)
        time.sleep(0.005)
    return float(module(torch.ones(1, 1, model.config["in_dim"])).double().sum())


@node(id="v.use", needs=DEVICE)
def use(
    context: NodeContext,
    model: InputProjector,
    salt: int = 0,
    seconds: float = 0.0,
    place: str = "",
    after: float = 0.0,
) -> str:
    """Says on which device and in which process it was, and what came out."""
    began = time.monotonic()
    found = _use(context, model, seconds)
    line = f"{context._place} {os.getpid()} {model.files[0].path.rpartition('/')[2]} {began} {time.monotonic()} {found}"
    if place:
        with Path(place).open("a") as file:
            file.write(line + "\n")
    return line


@node(id="v.use_aside")
def use_aside(context: NodeContext, model: InputProjector, salt: int = 0, seconds: float = 0.0) -> float:
    """In the server's process."""
    return _use(context, model, seconds)


@node(id="v.need", needs=Needs(device=True, working_bytes=lambda literals: literals["bytes"]))
def need(bytes: int, salt: int = 0) -> int:
    return bytes


@node(id="v.values", needs=DEVICE)
def values(given: AnyValue, size: int = 0) -> AnyValue:
    """What it was given, beside a tensor of its own."""
    import torch

    return {"given": given, "own": torch.arange(size, dtype=torch.float32)}


@node(id="v.bytes", needs=DEVICE)
def some_bytes(size: int, salt: int = 0, before: AnyValue = None) -> AnyValue:
    """A value that travels in a memory file, without the seconds that a new process needs for torch."""
    return {"bytes": bytes([salt % 256]) * size}


@node(id="v.secret", needs=DEVICE)
def secret(salt: int = 0) -> AnyValue:
    """A value that has no plain form."""
    return {"deep": [object()]}


@node(id="v.lazy", needs=DEVICE)
def lazy(flag: int, later: Annotated[AnyValue, LAZY] | None = None) -> AnyValue:
    if later is UNSET:
        return Need.of("later")
    return {"later": later, "flag": flag}


@node(id="v.grow", needs=DEVICE)
def grow(given: AnyValue) -> AnyValue:
    import torch

    found = Grow()
    inner = found.add("v.values", given=torch.full((3,), 7.0), size=2)
    return found.returning(value=inner["value"])


@node(id="v.talk", needs=DEVICE)
def talk(context: NodeContext, words: int) -> str:
    """News of every kind."""
    for number in range(words):
        context.chunk(f"{number} ")
        context.progress(number + 1, words, "talking")
    context.preview(b"\x89" * 100_000, "image/png")
    context.log("said it")
    context.wait(0.1)  # the latest progress is news until the end, but no longer
    assert context.rng(3).initial_seed() == 3
    path = context.output_path("talk", "txt")
    path.write_text(f"{context.node} {sorted(context.document or {})}")
    return str(context.file(path, "text/plain")["name"])


@node(id="v.patient", needs=DEVICE)
def patient(context: NodeContext, place: str = "", salt: int = 0) -> int:
    if place:
        Path(place).touch()
    while not context.wait(0.02):
        pass
    context.check()
    return 1


@node(id="v.stubborn", needs=DEVICE)
def stubborn(place: str, salt: int = 0) -> int:
    """Never looks whether it should stop."""
    Path(place).touch()
    time.sleep(60)
    return 1


@node(id="v.nap", needs=DEVICE)
def nap(seconds: float, salt: int = 0) -> int:
    time.sleep(seconds)
    return salt


@node(id="v.too_slow", needs=Needs(device=True, timeout_s=0.2))
def too_slow(salt: int = 0) -> int:
    """Takes longer than it may, and does not listen."""
    time.sleep(60)
    return 1


@node(id="v.dies_reading", needs=DEVICE)
def dies_reading(context: NodeContext, model: InputProjector, place: str) -> float:
    """What comes out; but the first process that calls it dies when half of a weight of a streamed model has been read."""
    from graph_engine.memory.mover import WeightFiles

    if not Path(place).exists():
        read = WeightFiles._read

        def half(files: WeightFiles, source: Any, begin: int, target: Any) -> None:
            read(files, source, begin, target[: len(target) // 2])
            Path(place).write_text(f"{source.key} {len(target) // 2}")
            os.kill(os.getpid(), signal.SIGKILL)

        WeightFiles._read = half  # type: ignore[method-assign]
    return _use(context, model, 0.0)
