"""Where weights lie: those that come with the package, and those in a folder of a user's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rcmed.errors import CheckpointError

WEIGHTS = Path(__file__).parents[1] / "weights"
PACKAGED = ("small",)


def model_folder(name: str | Path) -> Path:
    """The folder of a model: of the packaged weights for their name, else `name` itself."""
    return WEIGHTS / str(name) if str(name) in PACKAGED else Path(name)


def weight_files(folder: Path) -> list[Path]:
    """The files of a model folder that hold weights: one, or the shards that an index names.

    Raises:
        CheckpointError: one is missing.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    names = [whole.name]
    if not whole.exists() and index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index}: is no index of shards ({error})") from error
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing; name a complete model folder or `small`")
    return [folder / name for name in names]


def weights_sha256(files: list[Path]) -> str:
    """SHA-256 of the weights, 64 hexadecimal digits: of the file, or of the list of its shards' own."""
    digests = []
    for path in files:
        with path.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
