"""The model, loaded beside receiving: the port listens long before the weights are in memory.

Which weights will speak is read from their files alone, so receiving, completion and the identity of jobs need no
model, and a process that only receives never imports torch. A job that comes before the model is there waits for it,
and one that can't be loaded is tried again: nothing that was received is lost by it.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Sequence
from importlib import import_module

from dicom_bridge.jobs.answer_writer import FindsInImages
from dicom_bridge.jobs.worker import GatewayStoppingError
from dicom_bridge.settings import ModelSettings
from rcmed.findings import Findings, ModelIdentity
from rcmed.image import Image
from rcmed.model.packaged import model_identity, require_complete

_LOG = logging.getLogger(__name__)
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 300.0
_STOP_SECONDS = 30.0
# Readers and writers of DICOM, which take seconds to load; receiving needs none.
_LIBRARIES = ("dicom_bridge.series.images", "rcmed.evaluation.overlays", "dicom_bridge.results.filing")


class LoadingAssistant:
    """An assistant that is loaded in a thread of its own, from `begin` on or when it is first asked."""

    def __init__(
        self,
        load: Callable[[], FindsInImages],
        identity: Callable[[], ModelIdentity],
        first_wait_seconds: float = _FIRST_WAIT_SECONDS,
    ) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            load: makes the assistant; may take minutes, and may raise anything.
            identity: tells which one it will be, without loading it.
            first_wait_seconds: until loading that failed is tried again; doubles up to five minutes.
        """
        self._load = load
        self._tell_identity = identity
        self._wait = first_wait_seconds
        self._identity: ModelIdentity | None = None
        self._identity_lock = threading.Lock()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._assistant: FindsInImages | None = None
        self._thread: threading.Thread | None = None
        self._trouble = "ok"

    @classmethod
    def from_settings(cls, settings: ModelSettings) -> LoadingAssistant:
        """The model of the settings, and with it what a job imports; its files are looked for at once and read later.

        Raises:
            CheckpointError: the folder is missing or incomplete.
        """
        require_complete(settings.name)

        def load() -> FindsInImages:
            load_libraries()
            from rcmed.assistant import Assistant

            return Assistant.from_pretrained(settings.name, settings.device, describer=settings.describer)

        return cls(load, lambda: model_identity(settings.name))

    @property
    def identity(self) -> ModelIdentity:
        """Which model will speak; its weights are read once for it.

        Raises:
            CheckpointError: a file is missing.
            OSError: one can't be read.
        """
        with self._identity_lock:
            if self._identity is None:
                self._identity = self._tell_identity()
            return self._identity

    @property
    def is_loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._assistant is not None

    def begin(self) -> None:
        """Load in the background; once is enough."""
        with self._changed:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="model", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Whoever waits for the model is let go, and it is not tried again."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            # Loading can't be interrupted; a process that ends in the middle of it may crash in torch's own threads.
            self._thread.join(timeout=_STOP_SECONDS)

    def health(self) -> str:
        """ "ok" before, during and after loading, or why the last attempt failed."""
        return self._trouble

    def find(self, image: Image, prompts: str | Sequence[str]) -> Findings:
        """As `FindsInImages.find`; waits until the model is there.

        Raises:
            GatewayStoppingError: `stop` was called during the wait.
        """
        return self._loaded().find(image, prompts)

    def await_loaded(self) -> None:
        """Wait until the model is there.

        Raises:
            GatewayStoppingError: `stop` was called during the wait.
        """
        self._loaded()

    def _loaded(self) -> FindsInImages:
        self.begin()
        with self._changed:
            while self._assistant is None:
                if self._stopping.is_set():
                    raise GatewayStoppingError
                self._changed.wait()
            return self._assistant

    def _run(self) -> None:
        wait = self._wait
        while not self._stopping.is_set():
            try:
                loaded = self._load()
                if loaded.identity.weights_sha256 != self.identity.weights_sha256:
                    raise RuntimeError("the weights were replaced after the start: start the gateway again")
            except Exception as error:
                # Whatever torch, a driver or a file raises: jobs wait, receiving goes on, and everyone can see why.
                self._trouble = f"can't be loaded, tried again: {' '.join(str(error).split()) or type(error).__name__}"
                _LOG.error("the model %s", self._trouble)
                self._stopping.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                continue
            # A million objects of torch and its kin stay as they are; a collector that looks at all of them in the
            # middle of a job takes half a second for it.
            gc.collect()
            gc.freeze()
            with self._changed:
                self._assistant = loaded
                self._trouble = "ok"
                self._changed.notify_all()
            _LOG.info("the model %s is loaded", loaded.identity.name)
            return


def load_libraries() -> None:
    """Import what the steps of a job import, so that the first one does not wait for it."""
    for name in _LIBRARIES:
        import_module(name)
    from dicom_bridge.results.provenance import load_tables

    load_tables()
