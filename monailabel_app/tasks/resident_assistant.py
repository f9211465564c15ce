"""The one assistant of the server, and the images that it saw last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from rcmed.errors import ConfigurationError, GeometryError, InputError
from rcmed.findings import Findings, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.modality import Modality
from rcmed.readers import read_images
from rcmed.vocabulary import Target


class FindsTargets(Protocol):
    """What the server needs of `rcmed.Assistant`."""

    identity: ModelIdentity

    @property
    def takes_hints(self) -> bool:
        """Whether the weights take clicks, boxes and rough masks."""

    @property
    def takes_hints_without_name(self) -> bool:
        """Whether a hint is answered where nobody names what it points at."""

    @property
    def trained_targets(self) -> Sequence[str]:
        """Names of the targets that the weights were trained on; empty where they do not say."""

    def find(self, image: Image, prompts: str | Sequence[str] = "", hints: Mapping[int, Hint] = ...) -> Findings:
        """As `rcmed.Assistant.find`."""

    def known_targets(self, image: Image) -> list[Target]:
        """As `rcmed.Assistant.known_targets`."""


class OutOfMemoryError(Exception):
    """The device has no memory for this image; what was held was given back."""


class ResidentAssistant:
    """Serialises the use of the assistant that is served, and keeps images that were read."""

    def __init__(self, current: Callable[[], FindsTargets], image_cache_bytes: int = 0) -> None:
        """Take what is served.

        Args:
            current: gives the assistant to ask; another one after a version was promoted or rolled back.
            image_cache_bytes: of read images that are kept, least recently used forgotten first; 0 keeps none.
        """
        self._current = current
        self._lock = threading.Lock()
        self._images: OrderedDict[tuple[str, int, int, str | None], Image] = OrderedDict()
        self._images_lock = threading.Lock()
        self._image_cache_bytes = image_cache_bytes

    @property
    def assistant(self) -> FindsTargets:
        """The one that is asked now."""
        return self._current()

    def find(
        self, image: Image, prompts: Sequence[str] = (), hints: Mapping[int, Hint] = MappingProxyType({})
    ) -> Findings:
        """As `rcmed.Assistant.find`, one request at a time.

        Raises:
            OutOfMemoryError: of the device.
        """
        with self._lock:
            try:
                return self._current().find(image, list(prompts), hints)
            except RuntimeError as error:
                if "out of memory" not in str(error).lower():
                    raise
                _give_memory_back()
                raise OutOfMemoryError("the device has no memory left for this image; use --device cpu") from None

    def read(self, path: Path, modality: Modality | None, fallback: Modality | None) -> Image:
        """Read an image, or take it from those kept.

        Args:
            modality: what the user says; it wins.
            fallback: for files that do not say.
        Raises:
            InputError: unreadable, or several images that share no grid.
            ConfigurationError: nothing tells the modality.
        """
        stamp = path.stat() if path.exists() else None
        key = (str(path), stamp.st_mtime_ns if stamp else 0, stamp.st_size if stamp else 0, modality or fallback)
        with self._images_lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = _only_image(path, modality, fallback)
        with self._images_lock:
            if image.pixels.nbytes <= self._image_cache_bytes:
                self._images[key] = image
                while sum(kept.pixels.nbytes for kept in self._images.values()) > self._image_cache_bytes:
                    self._images.popitem(last=False)
        return image


def _only_image(path: Path, modality: Modality | None, fallback: Modality | None) -> Image:
    try:
        images = read_images(path, modality)
    except ConfigurationError:
        if fallback is None:
            choices = ", ".join(Modality)
            raise InputError(
                f"{path.name}: the file does not say its modality: choose `modality` in the viewer's Options, or start "
                f"with --modality (one of {choices})"
            ) from None
        images = read_images(path, fallback)
    if len(images) != 1:
        raise GeometryError(f"{path.name}: holds {len(images)} images that share no grid; ask for each alone")
    return images[0]


def _give_memory_back() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
