"""Where the weights lie that come with the package."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"
PACKAGED = ("small",)


def model_folder(name: str | Path) -> Path:
    """The folder of a model: of the packaged weights for their name, else `name` itself."""
    return WEIGHTS / str(name) if str(name) in PACKAGED else Path(name)
