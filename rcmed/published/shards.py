"""The files of a published checkpoint, read one at a time; never unpickled but by `weights_only`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rcmed.errors import CheckpointError
from rcmed.model.packaged import indexed_shards

_SUFFIXES = (".safetensors", ".bin")


def find_shards(folder: Path) -> list[Path]:
    """The files that hold tensors, in the order of their names.

    Raises:
        CheckpointError: there is none, or the index names one that is not there.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is not a folder; name the folder of a downloaded checkpoint")
    index = min(folder.glob("*.index.json"), default=None)
    if index is not None:
        return indexed_shards(index)
    found = [path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES and path.name != "training_args.bin"]
    if not found:
        raise CheckpointError(f"{folder}: holds no *.safetensors and no *.bin; name the folder of a checkpoint")
    return found


@contextmanager
def open_shard(path: Path) -> Iterator[dict[str, Tensor]]:
    """Tensors by published name, mapped from the file where its format allows: they cost memory when they are read.

    Raises:
        CheckpointError: the file is truncated, of another format, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as opened:
                yield {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        else:
            yield _load_bin(path)
    except (SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(f"{path}: is truncated or no file of tensors ({_first_line(error)})") from error


def _load_bin(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is truncated or no file of tensors ({_first_line(error)})") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: holds more than named tensors; import the model's shards only")
    return loaded


def _is_zip(path: Path) -> bool:
    """Whether the file is of the format since torch 1.6; older ones can't be mapped."""
    with path.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
