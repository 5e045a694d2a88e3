"""Weights into a module: built empty on the meta device, filled from safetensors, every key accounted for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from graph_engine.errors import ModelError
from graph_engine.models.catalog import Family
from graph_engine.models.spec import ModelSpec


def materialise(spec: ModelSpec, family: Family, device: str) -> Any:
    """The module of `spec` on `device`, in its dtype, frozen and in eval mode.

    Nothing is initialised that is overwritten at once, and the files are mapped, not copied, on the CPU. Raises ModelError
    that names missing, unexpected and misshapen keys.
    """
    import torch

    if family.load is not None:
        return family.load(spec, device).eval().requires_grad_(False)
    with torch.device("meta"):
        module = family.build(spec.config)
    tensors = _read(spec)
    if family.rename is not None:
        tensors = family.rename(tensors)
    if family.fit is not None:
        tensors = family.fit(module, tensors)
    dtype = getattr(torch, spec.dtype)
    expected = module.state_dict()
    _account(spec, expected, tensors)
    ready = {
        key: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else tensor.dtype)
        for key, tensor in tensors.items()
    }
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


def module_bytes(module: Any) -> int:
    """Bytes of all parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in _all_tensors(module))


def _all_tensors(module: Any) -> Iterable[tuple[str, Any]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _read(spec: ModelSpec) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Any] = {}
    for file in spec.files:
        try:
            with safe_open(file.path, framework="pt", device="cpu") as handle:
                for key in handle.keys():  # noqa: SIM118 - the handle is no mapping
                    tensors[key] = handle.get_tensor(key)
        except FileNotFoundError:
            raise ModelError(
                f"the weight file {file.path} is gone.",
                remedy="Put it back, or run the load node again.",
                code="model_missing",
            ) from None
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"the weight file {file.path} is damaged: {error}.",
                remedy="Fetch or convert it again.",
                code="model_damaged",
            ) from error
    return tensors


def _account(spec: ModelSpec, expected: dict[str, Any], found: dict[str, Any]) -> None:
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
    if parts:
        names = ", ".join(file.path.rpartition("/")[2] for file in spec.files) or "no file"
        raise ModelError(
            f"{names} does not hold the weights of {spec.family}: {'; '.join(parts)}.",
            remedy="Check that the file belongs to this model and size.",
            code="model_mismatch",
        )


def _some(names: list[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
