"""An intake with the store behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL

from dicom_bridge.events.audit import AuditTrail
from dicom_bridge.events.sink import Observer
from dicom_bridge.ingest.intake import InstanceIntake
from dicom_bridge.settings import ReceiveSettings
from dicom_bridge.store.database import Database
from dicom_bridge.store.files.instance_files import InstanceFiles
from dicom_bridge.store.index import StudyIndex


class Stored:
    """Everything under an intake, in a folder; as after a restart when it is made on the same folder again."""

    def __init__(self, folder: Path, database: Path | URL | None = None, **limits: Any) -> None:
        self.limits = ReceiveSettings.model_validate({"minimum_free_megabytes": 0, **limits})
        self.files = InstanceFiles(folder)
        self.files.prepare()
        self.database = Database(database or folder / "index.sqlite")
        self.index = StudyIndex(self.database)
        self.trail = folder / "audit.jsonl"
        self._audit = AuditTrail(self.trail)
        self.observer = Observer(audit=self._audit, transferred=self.index.transferred)
        self.intake = InstanceIntake(self.limits, self.files, self.index)

    def counted(self, name: str, **labels: str) -> float:
        return self.observer.metrics.registry.get_sample_value(name, labels) or 0.0

    def close(self) -> None:
        self._audit.close()
        self.database.close()
