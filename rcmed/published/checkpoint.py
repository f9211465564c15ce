"""Reads the published checkpoint shard by shard and writes a model folder of ours."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer

from rcmed.durable_files import replaced
from rcmed.errors import CheckpointError
from rcmed.model.config import RCMedConfig
from rcmed.model.instruction import SPECIAL_TOKENS
from rcmed.model.modeling import RCMedModel
from rcmed.model.packaged import file_sha256
from rcmed.model.processor import ChannelOrder, RCMedProcessor
from rcmed.published.names import our_name, published_names
from rcmed.published.shards import find_shards, open_shard
from rcmed.published.sizes import read_config

# A written file is at most this large: beside a shard that lies in memory it is all that is held.
_LARGEST_FILE_BYTES = 1 << 30
_SMALL_FILES_BYTES = 64 << 20


@dataclass(frozen=True)
class _Entry:
    """A tensor of the checkpoint, before it is read: its published name and ours."""

    published: str
    ours: str
    shape: tuple[int, ...]
    nbytes: int


def import_checkpoint(folder: Path, output: Path, on_file: Callable[[str], None] = lambda name: None) -> Path:
    """Bring a checkpoint with the published names into a model folder.

    Tensors keep their storage type. Memory: at most one shard and one file of 1 GiB at a time.

    Args:
        folder: shards (*.safetensors or *.bin) with their index, Llama's config.json, the tokenizer's files.
        output: a new or empty folder.
        on_file: told the name of each file before it is written.
    Returns:
        the model folder.
    Raises:
        CheckpointError: a shard is missing or truncated, a tensor is missing, left over or of another shape, the
            tokenizer lacks a token, or there is no room on the disk.
    """
    if output.exists() and any(output.iterdir()):
        raise CheckpointError(f"{output}: is not empty; name a new folder")
    shards = find_shards(folder)
    entries: dict[Path, list[_Entry]] = {}
    holders: dict[str, Path] = {}
    for shard in shards:
        entries[shard] = []
        with open_shard(shard) as tensors:
            for name, tensor in tensors.items():
                ours = _our_name(name, shard)
                if ours is None:
                    continue
                if ours in holders:
                    raise CheckpointError(f"{shard}: {name} is in {holders[ours].name}, too; the download is mixed up")
                holders[ours] = shard
                entries[shard].append(_Entry(name, ours, tuple(tensor.shape), tensor.nbytes))
    shapes = {entry.ours: entry.shape for found in entries.values() for entry in found}
    config = read_config(folder, shapes)
    _check(config, shapes, entries)
    processor = _processor(folder, config)
    _check_room(output, sum(entry.nbytes for found in entries.values() for entry in found))
    try:
        output.mkdir(parents=True, exist_ok=True)
        written = _write(entries, output, on_file)
        config.save_pretrained(str(output))
        processor.save_pretrained(output)
        _write_provenance(shards, written, output)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CheckpointError(f"{output}: no room is left on the disk; the folder is incomplete") from error
        raise
    return output


def _our_name(name: str, shard: Path) -> str | None:
    try:
        return our_name(name)
    except KeyError:
        raise CheckpointError(f"{shard}: {name} is no tensor of the published model") from None


def _check(config: RCMedConfig, shapes: dict[str, tuple[int, ...]], entries: dict[Path, list[_Entry]]) -> None:
    """Every tensor of the model is there with its shape, and none is left over."""
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in RCMedModel(config).state_dict().items()}
    published = {str(our_name(name)): name for name in published_names(config)}
    for shard, found in entries.items():
        for entry in found:
            if entry.ours not in expected:
                raise CheckpointError(f"{shard}: {entry.published} is left over; the model has no such tensor")
            needed = expected[entry.ours]
            if entry.shape != needed:
                raise CheckpointError(
                    f"{shard}: {entry.published} is of shape {entry.shape}, but {needed} is needed beside the others"
                )
    missing = sorted(set(expected) - set(shapes))
    if missing:
        raise CheckpointError(
            f"{next(iter(entries)).parent}: {published[missing[0]]} is missing"
            + (f", and {len(missing) - 1} other tensors" if len(missing) > 1 else "")
            + "; download all shards"
        )


def _processor(folder: Path, config: RCMedConfig) -> RCMedProcessor:
    """The published preprocessing: BGR, normalised before it is padded."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: the tokenizer can't be read ({str(error).splitlines()[0]})") from error
    known = tokenizer.get_vocab()
    rows = config.language["vocab_size"]
    for token in SPECIAL_TOKENS:
        if known.get(token, rows) >= rows:
            raise CheckpointError(f"{folder}: the tokenizer has no token {token} with an embedding; download its files")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token
    return RCMedProcessor(
        tokenizer,
        config.image_size,
        config.pixel_mean,
        config.pixel_std,
        channel_order=ChannelOrder.BGR,
        pads_before_normalising=False,
        reads_up_to_mark=True,
    )


def _check_room(output: Path, nbytes: int) -> None:
    existing = next(path for path in (output, *output.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < nbytes + _SMALL_FILES_BYTES:
        raise CheckpointError(
            f"{output}: {nbytes / 2**30:.1f} GiB are to be written, but the disk has only {free / 2**30:.1f} GiB free"
        )


def _pieces(found: list[_Entry]) -> Iterator[list[_Entry]]:
    """Entries in runs of at most `_LARGEST_FILE_BYTES`; a larger tensor is alone."""
    piece: list[_Entry] = []
    size = 0
    for entry in found:
        if piece and size + entry.nbytes > _LARGEST_FILE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(entry)
        size += entry.nbytes
    if piece:
        yield piece


def _write(entries: dict[Path, list[_Entry]], output: Path, on_file: Callable[[str], None]) -> list[Path]:
    """Write the tensors; returns the files. The index comes last: a folder without it is not complete."""
    plan = [(shard, piece) for shard, found in entries.items() for piece in _pieces(found)]
    names = [f"model-{number:05d}-of-{len(plan):05d}.safetensors" for number in range(1, len(plan) + 1)]
    weight_map: dict[str, str] = {}
    total = 0
    for (shard, piece), name in zip(plan, names, strict=True):
        on_file(name)
        with open_shard(shard) as tensors:
            kept = {entry.ours: _own(tensors[entry.published]) for entry in piece}
            with replaced(output / name) as part:
                save_file(kept, part, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(kept, name)
        total += sum(entry.nbytes for entry in piece)
        del kept
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (output / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return [output / name for name in names]


def _own(tensor: Tensor) -> Tensor:
    """The tensor with memory of its own: views of one storage can't be written side by side."""
    if tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _write_provenance(shards: list[Path], written: list[Path], output: Path) -> None:
    """What came from where: names, sizes and SHA-256 of the files that were read and written."""
    provenance = {
        "rcmed": metadata.version("rcmed"),
        "read": [_fingerprint(path) for path in shards],
        "written": [_fingerprint(path) for path in written],
    }
    (output / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


def _fingerprint(path: Path) -> dict[str, str | int]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
