"""Weights into a module: built empty on the meta device, filled from safetensors, every key accounted for.

`check` goes the same way with the headers of the files alone, so it needs neither the memory nor the time of the
weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.catalog import Family
from graph_engine.models.header import Header
from graph_engine.models.spec import ModelSpec, WeightFile

AHEAD_BYTES, PROBES = 4 << 20, 16
State = dict[str, Any]
"""Tensors by key."""


@dataclass(frozen=True)
class Fit:
    """What `check` saw: keys and numbers of the module, bytes in its files, bytes once it is loaded."""

    keys: int
    parameters: int
    file_bytes: int
    memory_bytes: int


def materialise(
    spec: ModelSpec, family: Family, device: str, proceed: Callable[[], None] = lambda: None, module: Any = None
) -> Any:
    """The module of `spec` on `device`, in its dtype, frozen and in eval mode.

    Nothing is initialised that is overwritten at once, and the files are mapped, not copied, on the CPU. Raises ModelError
    that names missing, unexpected and misshapen keys. proceed: called between pieces of the work; it may wait, and raises to
    end it. module: the empty one, if it was built already (`empty`).
    """
    import torch

    if family.load is not None:
        return family.load(spec, device).eval().requires_grad_(False)
    if module is None:
        module = empty(spec, family)
    wanted = _wanted(spec, family, module) if family.part else None
    tensors = fill(spec, family, lambda file: read(file, wanted, proceed), module)[1]
    dtype = getattr(torch, spec.dtype)
    # What `finish` makes smaller need not fit on the device before.
    first = "cpu" if family.whole is not None and family.whole(spec) else device
    ready = {}
    for key, tensor in tensors.items():
        proceed()
        ready[key] = tensor.to(device=first, dtype=dtype if tensor.is_floating_point() else tensor.dtype)
    module.load_state_dict(ready, strict=True, assign=True)
    if family.finish is not None:
        family.finish(module)
    left = [name for name, tensor in _all_tensors(module) if tensor.is_meta]
    if left:
        raise ModelError(
            f"{spec.family}: nothing fills {_some(left)}.",
            remedy="The family's `finish` must make the buffers that no file holds.",
            code="model_incomplete",
        )
    return module.to(device).eval().requires_grad_(False)


def check(spec: ModelSpec, family: Family) -> Fit:
    """Whether the files of `spec` hold its weights, all of them and no others. Reads headers only; raises as `materialise`."""
    module, tensors = fill(spec, family, outline)
    return Fit(
        len(tensors),
        sum(parameter.numel() for parameter in module.parameters()),
        spec.weight_bytes,
        module_bytes(module.to(dtype=dtype_of(spec.dtype))),
    )


def module_bytes(module: Any) -> int:
    """Bytes of all parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in _all_tensors(module))


def _all_tensors(module: Any) -> Iterable[tuple[str, Any]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def dtype_of(name: str) -> Any:
    import torch

    return getattr(torch, name)


def empty(spec: ModelSpec, family: Family) -> Any:
    """The module of `spec` without weights, on the meta device. Imports whatever library it is made of."""
    import torch

    with torch.device("meta"):
        return family.build(spec.config)


def fill(
    spec: ModelSpec, family: Family, reader: Callable[[WeightFile], State], module: Any = None
) -> tuple[Any, State]:
    """The module, still empty, and a tensor for each of its keys."""
    if module is None:
        module = empty(spec, family)
    files = {file.path: reader(file) for file in spec.files}
    tensors: State = {}
    for file in spec.files:
        named = {f"{file.prefix}{key}": tensor for key, tensor in files[file.path].items()}
        twice = [key for key in named if key in tensors]
        if twice:
            raise ModelError(
                f"{_names(spec)}: more than one of these files holds {_some(twice)}.",
                remedy="Check that the files are parts of one model, each there once.",
                code="model_mismatch",
            )
        tensors |= named
    try:
        if family.rename is not None:
            tensors = family.rename(tensors)
        if family.fold is not None:
            tensors = family.fold(tensors, spec)
        if family.fit is not None:
            tensors = family.fit(module, tensors)
    except ValueError as error:  # "what is wrong; what to do"
        reason, _, remedy = str(error).partition("; ")
        raise ModelError(
            f"{_names(spec)} cannot become {spec.family}: {reason}.",
            remedy=f"{remedy[:1].upper()}{remedy[1:]}." if remedy else "",
            code="model_mismatch",
        ) from error
    _account(spec, family, module.state_dict(), tensors, files)
    return module, tensors


def _wanted(spec: ModelSpec, family: Family, module: Any) -> frozenset[str] | None:
    """The keys of the files that the model takes as they are; None when it computes some of its tensors."""
    origin: dict[int, tuple[str, Any]] = {}
    """id of a tensor -> its key in the file, and the tensor, so that its id is not given anew"""

    def reader(file: WeightFile) -> State:
        tensors = outline(file)
        origin.update((id(tensor), (key, tensor)) for key, tensor in tensors.items())
        return tensors

    taken = [id(tensor) for tensor in fill(spec, family, reader, module)[1].values()]
    return frozenset(origin[mark][0] for mark in taken) if origin.keys() >= set(taken) else None


def read(file: WeightFile, wanted: frozenset[str] | None = None, proceed: Callable[[], None] = lambda: None) -> State:
    """The tensors of a file, mapped: their bytes are read when they are used. wanted: only these keys."""
    from safetensors import SafetensorError, safe_open

    size = Header.read(Path(file.path)).file_bytes  # says better than the library what is wrong
    try:
        if wanted is None:
            _read_ahead(file.path, size, proceed)
        with safe_open(file.path, framework="pt", device="cpu") as handle:
            keys = handle.keys()
            return {key: handle.get_tensor(key) for key in keys if wanted is None or key in wanted}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weight file {file.path} is damaged: {error}.",
            remedy="Fetch or convert it again.",
            code="model_damaged",
        ) from error


def _read_ahead(path: str, size: int, proceed: Callable[[], None]) -> None:
    """Bring a file into the system's cache, unless it is there: in order and in large pieces.

    Mapped, it would be read page by page, at half the speed of the disk.
    """
    if not hasattr(os, "RWF_NOWAIT"):  # only Linux can be asked what is in its cache
        return
    scratch = bytearray(AHEAD_BYTES)
    with open(path, "rb", buffering=0) as file:
        # Backwards, because looking at places in order would make the system read what lies between.
        if not all(_is_cached(file.fileno(), at) for at in range(size - 1, 0, -(size // PROBES + 1))):
            while file.readinto(scratch):
                proceed()


def _is_cached(file: int, at: int) -> bool:
    """Whether reading there needs no disk; True also where the file system does not say."""
    try:
        os.preadv(file, [bytearray(1)], at, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def outline(file: WeightFile) -> State:
    """The same tensors on the meta device: shapes and dtypes without values."""
    import torch

    tensors = Header.read(Path(file.path)).tensors
    return {key: torch.empty(entry.shape, dtype=dtype_of(entry.dtype), device="meta") for key, entry in tensors.items()}


def _account(spec: ModelSpec, family: Family, expected: State, found: State, files: Mapping[str, State]) -> None:
    """Refuse silent losses: every key of the module must come from a file, and every key of a file must have a place."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    shapes = [
        f"{key} is {tuple(found[key].shape)}, not {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    parts = []
    if missing:
        parts.append(f"{len(missing)} keys are missing ({_some(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} keys have no place ({_some(unexpected)})")
    if shapes:
        parts.append(f"{len(shapes)} tensors have another shape ({_some(shapes)})")
    if not parts:
        return
    told = family.explain(expected, found, files) if family.explain is not None else None
    reason, remedy = told or ("", "Check that the file belongs to this model and size.")
    raise ModelError(
        f"{_names(spec)} does not hold the weights of {spec.family}: {'; '.join(parts)}.{' ' if reason else ''}{reason}",
        remedy=remedy,
        code="model_mismatch",
    )


def _names(spec: ModelSpec) -> str:
    return ", ".join(file.path.rpartition("/")[2] for file in spec.files) or "no file"


def _some(names: list[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
