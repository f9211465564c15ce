"""Where weights lie, those of the package and those in a folder of a user's, and which they are; needs no torch."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path

from rcmed.errors import CheckpointError
from rcmed.findings import ModelIdentity

WEIGHTS = Path(__file__).parents[1] / "weights"
PACKAGED = ("small",)


def model_folder(name: str | Path) -> Path:
    """The folder of a model: of the packaged weights for their name, else `name` itself."""
    return WEIGHTS / str(name) if str(name) in PACKAGED else Path(name)


def indexed_shards(index: Path) -> list[Path]:
    """The files that an index of shards names, in the order of their names.

    Raises:
        CheckpointError: the file is no index, names a file that does not lie beside it, or one that is missing.
    """
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{index}: is no index of shards ({error}); download it again") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index}: names {name!r}, which is no file beside it")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index.parent / name}: is missing, but {index.name} names it; download it again")
    return [index.parent / name for name in names]


def weight_files(folder: Path) -> list[Path]:
    """The files of a model folder that hold weights: one, or the shards that an index names.

    Raises:
        CheckpointError: one is missing.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.exists():
        return indexed_shards(index)
    raise CheckpointError(f"{folder}: {whole.name} is missing; name a complete model folder or `small`")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; read in pieces."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def weights_sha256(files: list[Path]) -> str:
    """SHA-256 of the weights, 64 hexadecimal digits: of the file, or of the list of its shards' own."""
    digests = [file_sha256(path) for path in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def require_complete(name: str | Path) -> Path:
    """The folder of a model that has all its files.

    Raises:
        CheckpointError: one is missing.
    """
    folder = model_folder(name)
    for needed in ("config.json", "preprocessor_config.json"):
        if not (folder / needed).exists():
            raise CheckpointError(f"{folder}: {needed} is missing; name a complete model folder or `small`")
    weight_files(folder)
    return folder


def model_identity(name: str | Path) -> ModelIdentity:
    """Which model a name or folder stands for; reads the weights' files and loads nothing.

    Raises:
        CheckpointError: a file is missing.
        OSError: one can't be read.
    """
    folder = require_complete(name)
    return ModelIdentity(
        name=f"RCMed {folder.name}",
        version=metadata.version("rcmed"),
        weights_sha256=weights_sha256(weight_files(folder)),
    )
