"""One of several gateway processes that share a PostgreSQL database and a state folder, for tests that kill it.

Arguments: a file of settings, a folder of signs, the process's name, `serve` or `work`, a port or nothing. Signs are
empty files: `running-<name>` appears when it runs; `asked-<name>-<number>` each time the assistant is asked; while
`hold-<name>` is there, the assistant does not answer; while `disk-full` is there, no room is seen on the disk.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dicom_bridge.gateway.composition import Gateway
from dicom_bridge.settings import GatewaySettings
from dicom_bridge.store.files.instance_files import InstanceFiles
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity
from rcmed.image import Image
from rcmed.vocabulary import target_named


class SwiftAssistant:
    """Calls liver what is brighter than 100, at once unless it is held."""

    identity = ModelIdentity("swift", "1", "0" * 64)

    def __init__(self, signs: Path, name: str) -> None:
        self._signs = signs
        self._name = name

    def find(self, image: Image, prompts: str | Sequence[str]) -> Findings:
        (self._signs / f"asked-{self._name}-{time.time_ns()}").touch()
        pause = threading.Event()
        while (self._signs / f"hold-{self._name}").exists():
            pause.wait(0.05)
        liver = Finding("liver", target_named("liver"), FindingStatus.FOUND, 0.98, image.pixels > 100)
        return Findings((liver,), self.identity, image.grid, image.modality, answer="An answer.")


def main(settings_file: Path, signs: Path, name: str, role: str, port: str) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("dicom_bridge").setLevel(logging.INFO)
    # Before any thread is started: all threads inherit the mask, so that only `sigwait` takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    settings = GatewaySettings.from_yaml(settings_file)
    update: dict[str, Any] = {"workers": settings.workers.model_copy(update={"name": name})}
    if port:
        update["receive"] = settings.receive.model_copy(update={"port": int(port)})
    measure = InstanceFiles.free_megabytes
    InstanceFiles.free_megabytes = lambda files: 0.0 if (signs / "disk-full").exists() else measure(files)  # type: ignore[method-assign]
    gateway = Gateway(settings.model_copy(update=update), SwiftAssistant(signs, name), receives=role == "serve")
    with gateway:
        (signs / f"running-{name}").touch()
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
