"""Encoded images that are kept for further prompts, up to a number of bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rcmed.model.modeling import EncodedImage

Pixel = TypeVar("Pixel", bound=np.generic)


class EncodedImageCache:
    """Least recently used encoded images are forgotten first. Threads may share it; two may encode one image twice."""

    def __init__(self, limit_bytes: int) -> None:
        """Make an empty cache.

        Args:
            limit_bytes: what the kept images may take; one that is larger alone is never kept, 0 keeps none.
        """
        self.limit_bytes = limit_bytes
        self.nbytes = 0
        self._kept: OrderedDict[bytes, EncodedImage] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, pixels: NDArray[Pixel], encode: Callable[[NDArray[Pixel]], EncodedImage]) -> EncodedImage:
        """The encoded image of these pixels; computed by `encode` where it is not kept.

        Args:
            pixels: uint8 (slice, row, column, 3), or prepared tiles; the key is their content, shape and type, not the
                array.
            encode: the model.
        """
        if self.limit_bytes <= 0:
            return encode(pixels)
        digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
        digest.update(np.ascontiguousarray(pixels).data)
        key = digest.digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        encoded = encode(pixels)
        with self._lock:
            if encoded.nbytes <= self.limit_bytes and key not in self._kept:
                self._kept[key] = encoded
                self.nbytes += encoded.nbytes
                while self.nbytes > self.limit_bytes:
                    _, forgotten = self._kept.popitem(last=False)
                    self.nbytes -= forgotten.nbytes
        return encoded
