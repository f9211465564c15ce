"""A gateway in a process of its own, for tests that kill it.

Arguments: a file of settings, a folder of signs. Signs are empty files: `listening` appears when the gateway does;
`asked-<number>` each time the assistant is asked; while `hold` is there, the assistant does not answer. A series of
which `block` holds the UID makes it wait in native code without end, one of which `die` does kills the process.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dicom_bridge.commands.serve import start_anew
from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.image import Image
from rcmed.vocabulary import target_named


class HeldAssistant:
    """Calls liver what is brighter than 100, and answers only when it may."""

    identity = ModelIdentity("held", "1", "0" * 64)

    def __init__(self, signs: Path) -> None:
        self._signs = signs

    def find(self, image: Image, prompts: str | Sequence[str]) -> Findings:
        (self._signs / f"asked-{time.time_ns()}").touch()
        if self._is_told("block", image):
            # A thread that waits here can't be called back, as one in a decoder that never ends.
            ctypes.CDLL(None).pause()
        if self._is_told("die", image):
            os.kill(os.getpid(), signal.SIGKILL)
        pause = threading.Event()
        while (self._signs / "hold").exists():
            pause.wait(0.05)
        liver = Finding("liver", target_named("liver"), FindingStatus.FOUND, 0.98, image.pixels > 100)
        spleen = Finding("spleen", target_named("spleen"), FindingStatus.ABSENT, 0.02)
        return Findings((liver, spleen), self.identity, image.grid, image.modality, answer="An answer.")

    def _is_told(self, sign: str, image: Image) -> bool:
        told = self._signs / sign
        return told.exists() and told.read_text() == image.series_instance_uid


def main(settings_file: Path, signs: Path) -> None:
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("dicom_bridge").setLevel(logging.INFO)
    # Before any thread is started: all threads inherit the mask, so that only `sigwait` takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with Gateway(GatewaySettings.from_yaml(settings_file), HeldAssistant(signs), end_process=start_anew):
        (signs / "listening").touch()
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
