"""A parcel: what is finished of a training, small enough to be carried from one borrowed machine to the next.

    python -m nodes.nextgpt.training.parcel pack FOLDER PARCEL [--piece-bytes N]
    python -m nodes.nextgpt.training.parcel unpack PARCEL FOLDER

Weights in half precision, and what says which stages are done; `--resume` goes on with the next one. Snapshots stay behind,
they are three times as large: choose stages (`--only`) that a lease can finish. The pieces are one tar file in order.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save

from graph_engine.errors import StoreError
from nodes.nextgpt.training.finished import DONE, settle

PIECE_BYTES = 15 << 20


def pack(folder: Path, parcel: Path, piece_bytes: int = PIECE_BYTES) -> list[Path]:
    """Pieces of at most so many bytes. Raises StoreError where nothing is finished."""
    settle(folder)
    finished = sorted(path for path in folder.glob(f"*/{DONE}"))
    if not finished:
        raise StoreError(f"no stage is finished in {folder}.", remedy="Train one to its end.", code="nothing_trained")
    parcel.mkdir(parents=True, exist_ok=True)
    pieces: list[Path] = []
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w") as tar:
            for path in finished:
                tar.add(path, path.relative_to(folder))
            for path in sorted((folder / "weights").glob("*.safetensors")):
                halved = {key: t.half() if t.is_floating_point() else t for key, t in load_file(path).items()}
                _add(tar, path.relative_to(folder), save(halved))
        whole.seek(0)
        while content := whole.read(piece_bytes):
            pieces.append(parcel / f"{len(pieces):03}.part")
            pieces[-1].write_bytes(content)
    return pieces


def unpack(parcel: Path, folder: Path) -> list[str]:
    """Names of the stages that are finished. Raises StoreError for pieces that are missing or damaged."""
    pieces = sorted(parcel.glob("*.part"))
    if [piece.stem for piece in pieces] != [f"{index:03}" for index in range(len(pieces))] or not pieces:
        raise StoreError(
            f"{parcel} lacks pieces: it has {', '.join(piece.name for piece in pieces) or 'none'}.",
            remedy="Bring all of them, as they were packed.",
            code="parcel_damaged",
        )
    whole = io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))
    try:
        with tarfile.open(fileobj=whole) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(
            f"{parcel} cannot be read: {error}.", remedy="Pack it again, and bring all pieces.", code="parcel_damaged"
        ) from error
    return sorted(path.parent.name for path in folder.glob(f"*/{DONE}"))


def _add(tar: tarfile.TarFile, name: Path, content: bytes) -> None:
    entry = tarfile.TarInfo(str(name))
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="what is finished in FOLDER, into PARCEL")
    packing.add_argument("folder", type=Path)
    packing.add_argument("parcel", type=Path)
    packing.add_argument("--piece-bytes", type=int, default=PIECE_BYTES, metavar="N")
    unpacking = commands.add_parser("unpack", help="the other way round")
    unpacking.add_argument("parcel", type=Path)
    unpacking.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "pack":
        for piece in pack(arguments.folder, arguments.parcel, arguments.piece_bytes):
            print(f"{piece} {piece.stat().st_size:,} bytes")
    else:
        print("finished: " + ", ".join(unpack(arguments.parcel, arguments.folder)))


if __name__ == "__main__":
    main()
