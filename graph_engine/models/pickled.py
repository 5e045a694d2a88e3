"""The child of `convert.py`: reads one pickle with torch's restricted reader, writes safetensors tensor by tensor.

`python -m graph_engine.models.pickled`, a JSON job on standard input, JSON lines on standard output: {"share", "doing"}
while it works, at last {"files", "notes", "left_out", "sha256"} or {"error", "remedy", "code"}.
"""

from __future__ import annotations

import errno
import hashlib
import json
import pickle
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graph_engine.models.header import DTYPES

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Names under which training programs put the weights among other things."""
CHUNK_BYTES = 16 << 20
_DTYPE_NAMES = {f"torch.{dtype}": name for name, (dtype, _) in DTYPES.items()}


class Refused(Exception):
    """What is wrong, what to do, and the code of the ModelError that it becomes."""

    def __init__(self, message: str, remedy: str, code: str) -> None:
        super().__init__(message)
        self.told = {"error": message, "remedy": remedy, "code": code}


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def limit_memory(limit: int) -> None:
    """Address space, mapped files included; where the system has no such limit, none."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def unpickle(source: Path) -> Any:
    """What the file holds, its tensors mapped where the format allows it. Raises Refused."""
    import torch

    for mapped in (True, False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about old pickles, which either load or do not
                return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"it would load {named[1]}" if named else "it is no file of plain tensors"
            raise Refused(
                f"{source} was refused: {what}, and weights must not run code.",
                "Do not use it, unless you trust its maker: then save its state dict anew with torch.save.",
                "unsafe_pickle",
            ) from error
        except MemoryError as error:
            raise too_large(source) from error
        except (RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
            # Files of torch before 1.6 are no archives and cannot be mapped.
            if mapped and "mmap" in str(error):
                continue
            if "memory" in str(error).lower():
                raise too_large(source) from error
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise Refused(
                f"{source} is no file of torch.save, or it is cut off: {reason.rstrip('.')}.",
                "Fetch it again.",
                "model_format",
            ) from error
    raise AssertionError("the second attempt returned or raised")


def too_large(source: Path) -> Refused:
    return Refused(
        f"{source} needs more memory than a conversion may take.",
        "Its tensors are larger than the file: it is damaged, or made to do harm. Fetch it again.",
        "model_too_large",
    )


def state_of(content: Any) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Tensors by key, what is none with its type, and in words what was unwrapped. Raises Refused if there are none."""
    import torch

    notes: list[str] = []
    left_out: dict[str, str] = {}
    while isinstance(content, Mapping) and not any(isinstance(value, torch.Tensor) for value in content.values()):
        inner = next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        left_out |= {str(key): type(value).__name__ for key, value in content.items() if key != inner}
        notes.append(f"the weights lay under {inner!r}")
        content = content[inner]
    entries = content if isinstance(content, Mapping) else {}
    tensors = {str(key): value for key, value in entries.items() if isinstance(value, torch.Tensor)}
    left_out |= {str(key): type(value).__name__ for key, value in entries.items() if str(key) not in tensors}
    if not tensors:
        raise Refused(
            f"the file holds no weights but {type(content).__name__}.",
            "Give the file with the state dict.",
            "model_format",
        )
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
        notes.append("the prefix 'module.' of every key was taken off")
    odd = [
        key for key, value in tensors.items() if value.layout != torch.strided or str(value.dtype) not in _DTYPE_NAMES
    ]
    if odd:
        raise Refused(
            f"safetensors cannot hold {', '.join(odd[:5])}: {tensors[odd[0]].dtype}, {tensors[odd[0]].layout}.",
            "Save the weights as plain dense tensors.",
            "model_format",
        )
    storages = [value.untyped_storage().data_ptr() for value in tensors.values() if value.numel()]
    shared = len(storages) - len(set(storages))
    if shared:
        notes.append(f"{shared} tensors shared memory with others and now have their own")
    strided = sum(not value.is_contiguous() for value in tensors.values())
    if strided:
        notes.append(f"{strided} tensors were laid out anew")
    return tensors, left_out, notes


def write(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Iterator[int]:
    """A safetensors file, one tensor in memory at a time; yields the bytes written after each."""
    import torch

    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))  # so that each begins aligned
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for key in order:
        tensor = tensors[key]
        end = offset + tensor.numel() * tensor.element_size()
        name = _DTYPE_NAMES[str(tensor.dtype)]
        entries[key] = {"dtype": name, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for key in order:
            data = tensors[key].detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            for start in range(0, len(data), CHUNK_BYTES):
                file.write(data[start : start + CHUNK_BYTES])
            yield len(data)


def work(job: Mapping[str, Any]) -> None:
    source = Path(job["source"])
    limit_memory(job["memory_bytes"])
    size, read, digest = source.stat().st_size, 0, hashlib.sha256()
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            read += len(chunk)
            say(share=0.3 * read / size, doing="reading")
    tensors, left_out, notes = state_of(unpickle(source))
    chosen: dict[str, dict[str, Any]] = {path: {} for path, _ in job["outputs"]}
    for key, tensor in tensors.items():
        path = next((path for path, pattern in job["outputs"] if re.search(pattern, key)), None)
        if path is None:
            left_out[key] = f"tensor {tuple(tensor.shape)} that belongs to no part"
        else:
            chosen[path][key] = tensor
    total, done = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) or 1, 0
    metadata = {"format": "pt", **job["metadata"], "sha256": digest.hexdigest()}
    for path, part in chosen.items():
        if part:
            for written in write(Path(path), part, metadata):
                done += written
                say(share=0.3 + 0.7 * done / total, doing="writing")
    files = {path: len(part) for path, part in chosen.items() if part}
    say(files=files, notes=notes, left_out=left_out, sha256=digest.hexdigest())


def main() -> int:
    job = json.load(sys.stdin)
    try:
        work(job)
    except Refused as refusal:
        say(**refusal.told)
        return 1
    except MemoryError:
        say(**too_large(Path(job["source"])).told)
        return 1
    except RuntimeError as error:
        if "memory" not in str(error).lower():
            raise
        say(**too_large(Path(job["source"])).told)
        return 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        say(
            error=f"{job['outputs'][0][0]} cannot be written: {error.strerror or error}.",
            remedy="Free space on that disk, or name a destination on another."
            if full
            else "Check the rights of the folder.",
            code="disk_full" if full else "model_unwritable",
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
