"""A receiver whose settings a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dicom_bridge.events.audit import AuditTrail
from dicom_bridge.events.sink import Observer
from dicom_bridge.ingest.dimse.scp import StorageScp
from dicom_bridge.ingest.intake import InstanceIntake
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex


@dataclass
class GuardedReceiver:
    scp: StorageScp
    index: StudyIndex
    observer: Observer
    trail: Path

    def counted(self, name: str, **labels: str) -> float:
        return self.observer.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def receiver_with(tmp_path: Path) -> Iterator[Callable[..., GuardedReceiver]]:
    with ExitStack() as running:

        def start(**settings: Any) -> GuardedReceiver:
            files = InstanceFiles(tmp_path / "state")
            files.prepare()
            database = Database(tmp_path / "state" / "index.sqlite")
            index = StudyIndex(database)
            trail = tmp_path / "state" / "audit.jsonl"
            audit = AuditTrail(trail)
            observer = Observer(audit=audit, transferred=index.transferred)
            told = ReceiveSettings.model_validate({"port": 0, "minimum_free_megabytes": 0, **settings})
            scp = StorageScp(told, InstanceIntake(told, files, index), observer)
            scp.start()
            running.callback(database.close)
            running.callback(audit.close)
            running.callback(scp.stop)
            return GuardedReceiver(scp, index, observer, trail)

        yield start
