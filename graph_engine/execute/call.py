"""One call of a node: its function, what it answers, and the check of every value it gives out."""

from __future__ import annotations

import asyncio
import errno
import inspect
import sys
import time
import types
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from graph_engine.errors import AnyloomError, Cancelled, KindError, NodeError, NotFoundError, OutOfMemory, PathError
from graph_engine.execute.context import JobContext
from graph_engine.execute.executor import Coming, Interrupted, NotBegun, Outputs, Raised, Report, Work
from graph_engine.graph.kinds import describe
from graph_engine.graph.node import NodeType
from graph_engine.graph.outcome import UNSET, Grow, Need, Skip, Values
from graph_engine.graph.port import Output
from graph_engine.tuples import made

_OUT_OF_MEMORY = ("can't allocate memory", "CUDA out of memory", "CUDA error: out of memory", "ALLOC_FAILED")


def arguments(work: Work) -> dict[str, Any]:
    """What the function is called with: literals, linked values, `UNSET` for lazy inputs not asked for yet, None for lazy
    inputs that were asked for and have nothing."""
    job, type = work.job, work.job.type
    given = {**job.literals, **work.inputs}
    for name in job.checks:
        if name in given:
            given[name] = _arrived(type, name, given[name])
    for name in job.lazy:
        if name not in given:
            given[name] = None if name in job.asked else UNSET
    if len(given) < len(type.inputs) or type.more is not None:  # else each has its value
        for port in type.inputs:
            if port.name not in given and (port.required or port.default is not None):
                given[port.name] = port.default
    if type.context_name:
        given[type.context_name] = work.context
    return given


def call(work: Work) -> Report:
    """Run a synchronous node to its end. Never raises."""
    began = time.perf_counter()
    try:
        type = work.job.type
        if work.context is not None and isinstance(work.context, JobContext):
            work.context.begin()
        if type.lane == "device":
            with _without_gradients(), _current(work.job.device):
                answer = type.function(**arguments(work))
        else:
            answer = type.function(**arguments(work))
        return _report(type, answer, began)
    except Cancelled as error:
        return _cancelled(work, error)
    except BaseException as error:  # SystemExit too: a node must not end the thread it is in
        return Raised(explain(error, work.job.type))


def follow(
    works: tuple[Work, ...], before: Report, until: float, stopped: Container[int]
) -> Iterator[tuple[Work, Report]]:
    """Go on with the jobs that read each other, as long as there are plain values and `time.perf_counter() < until`."""
    going = True
    for work in works:
        going = going and isinstance(before, Outputs) and work.job.id not in stopped and time.perf_counter() < until
        if going and isinstance(before, Outputs):
            outputs = before.values
            inputs = {name: outputs[v.output] if type(v) is Coming else v for name, v in work.inputs.items()}
            going = not any(isinstance(value, Skip) for value in inputs.values())
            if going:
                before = call(work._replace(inputs=inputs))
                yield work, before
                continue
        yield work, NotBegun()


async def call_async(work: Work) -> Report:
    """Run a native `async def` node to its end."""
    began = time.perf_counter()
    try:
        if isinstance(work.context, JobContext):
            await asyncio.to_thread(work.context.begin)
        answer = await work.job.type.function(**arguments(work))
        return _report(work.job.type, answer, began)
    except asyncio.CancelledError:
        raise
    except Cancelled as error:
        return _cancelled(work, error)
    except BaseException as error:
        return Raised(explain(error, work.job.type))


def _cancelled(work: Work, error: Cancelled) -> Report:
    """Only who was told to stop may say so; else the scheduler would start the job again, for ever."""
    told = work.context is not None and work.context.cancelled
    return Interrupted() if told else Raised(explain(error, work.job.type))


def _without_gradients() -> AbstractContextManager[Any]:
    """Device nodes infer unless they say otherwise. torch is not imported for the sake of a node that does not use it."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "no_grad"):
        return torch.no_grad()  # type: ignore[no-any-return]
    return nullcontext()


def _current(device: str) -> AbstractContextManager[Any]:
    """Of several accelerators the job's own is the one that kernels and new tensors go to when nobody says where."""
    torch: Any = sys.modules.get("torch") if device.startswith("cuda") else None
    if torch is not None and hasattr(torch, "cuda"):
        return torch.cuda.device(device)  # type: ignore[no-any-return]
    return nullcontext()


def _report(type: NodeType, answer: Any, began: float) -> Report:
    if isinstance(answer, Need):
        ports = (answer.ports,) if isinstance(answer.ports, str) else answer.ports
        return Need(tuple(map(str, ports)))
    if isinstance(answer, Grow):
        return answer
    return made(Outputs, (checked(type, answer), time.perf_counter() - began))


def checked(type: NodeType, answer: Any) -> tuple[Any, ...]:
    """The node's answer as one value per output port, each in the canonical form of its kind. Raises NodeError."""
    ports = type.outputs
    if len(ports) == 1 and not isinstance(answer, tuple):  # the outcomes are tuples too
        return (_check(type, ports[0], answer),)
    if isinstance(answer, Skip):
        return (answer.in_words(),) * len(ports)
    if isinstance(answer, Values):
        values = answer.outputs
    elif len(ports) == 1 and not (hasattr(answer, "_fields") and ports[0].name in answer._fields):
        return (_check(type, ports[0], answer),)
    elif not ports:
        values = () if answer is None else (answer,)
    else:
        values = answer if isinstance(answer, tuple) else (answer,)
    if len(values) != len(ports):
        raise NodeError(
            f"{type.id} has {len(ports)} outputs but gave {len(values)} values.",
            remedy="This is a bug of the node: its return value must match its return annotation.",
            code="wrong_outputs",
        )
    return tuple([_check(type, port, value) for port, value in zip(ports, values, strict=True)])


def _check(type: NodeType, port: Output, value: Any) -> Any:
    try:
        if not port.as_list:
            return value.in_words() if isinstance(value, Skip) else port.kind.check(value)
        if isinstance(value, Skip):
            return value.in_words()
        if not isinstance(value, list | tuple):
            raise KindError(f"expected a list of {port.kind}, got {describe(value)}.")
        return [entry.in_words() if isinstance(entry, Skip) else port.kind.check(entry) for entry in value]
    except (KindError, ValueError, TypeError, AttributeError) as error:
        reason = error.message if isinstance(error, AnyloomError) else str(error)
        remedy = error.problem.remedy if isinstance(error, AnyloomError) else ""
        raise NodeError(
            f"{type.id} gave a wrong value at its output {port.name!r}: {reason}",
            remedy=remedy or "This is a bug of the node.",
            port=port.name,
            code="wrong_output",
        ) from error


def _arrived(type: NodeType, name: str, value: Any) -> Any:
    """A linked value whose source promised no kind, checked by the kind of the port it arrives at."""
    port = type.input(name)
    assert port is not None
    try:
        return [port.kind.check(entry) for entry in value] if port.as_list else port.kind.check(value)
    except (KindError, ValueError, TypeError, AttributeError) as error:
        reason = error.message if isinstance(error, AnyloomError) else str(error)
        raise NodeError(
            f"{type.id} cannot use what arrived at its input {name!r}, which takes {port.kind}: {reason}",
            remedy=f"Link a value of kind {port.kind}.",
            port=name,
            code="wrong_input",
        ) from error


def explain(error: BaseException, type: NodeType) -> AnyloomError:
    """Any exception of a node as an error a person can act on."""
    if isinstance(error, AnyloomError) and not isinstance(error, Cancelled):
        if isinstance(error, PathError | NotFoundError) and not error.problem.port:
            files = [port.name for port in type.inputs if port.widget is not None and port.widget.upload]
            if len(files) == 1:  # which file is meant, the node need not say
                error.problem = error.problem._replace(port=files[0])
        return error
    name = error.__class__.__name__
    if _is_out_of_memory(error):
        found: AnyloomError = OutOfMemory(
            f"{type.id} ran out of memory: {words_of(error)}.", remedy="Use a smaller size, batch or model."
        )
    else:
        found = NodeError(f"{type.id} raised {name}: {words_of(error)}" + place_of(error, type), code="node_raised")
    found.__cause__ = error
    return found


def words_of(error: BaseException) -> str:
    """What it says; also of one whose own code for that fails, or nobody would ever hear of the job."""
    try:
        return str(error)
    except Exception as fault:
        return f"(what, it cannot say: its __str__ raised {fault.__class__.__name__})"


def _is_out_of_memory(error: BaseException) -> bool:
    """Python's, torch's on an accelerator, and on the host, where its allocator and mmap have errors of their own."""
    if isinstance(error, MemoryError) or error.__class__.__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    told = words_of(error)
    return isinstance(error, RuntimeError) and any(sign in told for sign in _OUT_OF_MEMORY)


def place_of(error: BaseException, type: NodeType) -> str:
    """File and line in the node's own code, for its author."""
    frame: types.TracebackType | None = error.__traceback__
    own = inspect.unwrap(type.function).__code__.co_filename
    line = ""
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == own:
            line = f" ({own.rpartition('/')[2]}:{frame.tb_lineno})"
        frame = frame.tb_next
    return line
