"""The one assistant that answers the page: loaded aside, asked by one at a time, ended when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from rcmed.findings import Findings, ModelIdentity
from rcmed.hints import Hint
from rcmed.image import Image
from rcmed.vocabulary import Target


class AnswersPage(Protocol):
    """What the page needs of `rcmed.Assistant`."""

    identity: ModelIdentity

    @property
    def takes_hints(self) -> bool:
        """Whether the weights take clicks, boxes and rough masks."""

    @property
    def takes_hints_without_name(self) -> bool:
        """Whether a hint is answered where nobody names what it points at."""

    def known_targets(self, image: Image) -> list[Target]:
        """As `rcmed.Assistant.known_targets`."""

    def find(
        self,
        image: Image,
        prompts: str | Sequence[str] = "",
        hints: Mapping[int, Hint] = ...,
        progress: Callable[[float], None] = ...,
    ) -> Findings:
        """As `rcmed.Assistant.find`."""


class _NobodyWaitsError(Exception):
    """Ends an asking in the midst of a volume."""


class Asking:
    """Loads the assistant in a thread, and asks it there."""

    def __init__(self, load: Callable[[], AnswersPage]) -> None:
        """Begin to load.

        Args:
            load: gives the assistant; what it raises is told to whoever asks.
        """
        self._thread = ThreadPoolExecutor(1, "ask")
        self._loaded: Future[AnswersPage] = self._thread.submit(load)
        self._ended = threading.Event()

    async def assistant(self) -> AnswersPage:
        """The assistant, once it is loaded; raises what loading it raised."""
        return await asyncio.shield(asyncio.wrap_future(self._loaded))

    async def find(self, image: Image, words: str, hints: Mapping[int, Hint]) -> AsyncIterator[float | Findings]:
        """Ask; an iteration that is left before its end ends the asking, also in the midst of a volume.

        Returns:
            the share of the slices that are answered, in (0, 1], each time it grows; the findings at last.
        Raises:
            InputError, ConfigurationError: as `rcmed.Assistant.find`.
        """
        assistant = await self.assistant()
        loop = asyncio.get_running_loop()
        shares: asyncio.Queue[float | None] = asyncio.Queue()
        is_left = threading.Event()

        def say(share: float | None) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waits
                loop.call_soon_threadsafe(shares.put_nowait, share)

        def progress(share: float) -> None:
            if is_left.is_set() or self._ended.is_set():
                raise _NobodyWaitsError
            say(share)

        asked = self._thread.submit(assistant.find, image, words, hints, progress)
        asked.add_done_callback(lambda _: say(None))
        try:
            while (share := await shares.get()) is not None:
                yield share
            yield asked.result()
        finally:
            is_left.set()
            asked.cancel()

    def close(self) -> None:
        """End what is asked now; nothing is asked any more."""
        self._ended.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
