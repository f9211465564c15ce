"""The assistant that is served: whichever version the state directory names."""

from __future__ import annotations

import threading
from pathlib import Path

from rcmed import Assistant
from rcmed.site_learning.versions import VersionStore


class ServedAssistant:
    """Holds one resident assistant, and replaces it when another version is served.

    A version is promoted in the process that trains, so what is served is read from the state directory at every use: a
    small file, and the weights only when its number has changed. Findings that are under way finish with the assistant
    that they began with.
    """

    def __init__(
        self, state: Path, base: str | Path = "small", device: str = "auto", cache_bytes: int = 512 * 2**20
    ) -> None:
        """Open the versions; the weights are loaded at the first use.

        Args:
            state: the state directory (`rcmed.site_learning.versions`).
            base: the weights that everything starts from.
            device, cache_bytes: as of `Assistant.from_pretrained`.
        """
        self.versions = VersionStore(state, base)
        self._device, self._cache_bytes = device, cache_bytes
        self._lock = threading.Lock()
        self._loaded: tuple[int, Assistant] | None = None

    def current(self) -> Assistant:
        """The assistant of the version that is served."""
        return self.numbered()[1]

    def numbered(self) -> tuple[int, Assistant]:
        """The number of the version that is served, and its assistant."""
        with self._lock:
            number = self.versions.served_number()
            if self._loaded is None or self._loaded[0] != number:
                folder = self.versions.folder(number)
                self._loaded = number, Assistant.from_pretrained(folder, self._device, self._cache_bytes)
            return self._loaded
