"""What every result says of its making: research use, which model with which weights, what it was asked, and when."""

from __future__ import annotations

import warnings
from datetime import date, datetime
from typing import Any

from highdicom import ContributingEquipment
from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, RTStructureSetStorage, SecondaryCaptureImageStorage

from dicom_bridge.manufacturer import MANUFACTURER
from dicom_bridge.results.codes import long_string, model_name, unlimited_text
from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.sources.source import as_secondary_capture
from rcmed.findings import Findings

# highdicom quotes the patient's name where it has one component only; no log may hold it.
warnings.filterwarnings("ignore", message=".*is unlikely to represent the intended person name")

RESEARCH = "RESEARCH USE ONLY"
_LONGEST_SHORT_TEXT = 1024


class ResultObject(SOPClass):
    """A data set with what patient, study, series and equipment modules ask for; its maker adds the rest."""

    def __init__(
        self,
        findings: Findings,
        header: Dataset,
        identifiers: ResultIdentifiers,
        *,
        kind: str,
        sop_class_uid: UID,
        modality: str,
        series_number: int,
        series_description: str,
    ) -> None:
        """Make it.

        Args:
            findings: of the model.
            header: of a source instance, mended; patient and study are copied from it.
            identifiers: of the job.
            kind: what the UIDs are derived by.
            sop_class_uid, modality, series_number, series_description: of the object.
        """
        made = made_by(findings, identifiers)
        if sop_class_uid == RTStructureSetStorage:
            # Its date is that of the structure set; it has no content date.
            del made["content_date"], made["content_time"]
        super().__init__(
            study_instance_uid=header.StudyInstanceUID,
            series_instance_uid=identifiers.series_uid_of(kind),
            sop_instance_uid=identifiers.uid_of(kind),
            sop_class_uid=sop_class_uid,
            instance_number=1,
            modality=modality,
            series_number=series_number,
            series_description=series_description,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set="ISO_IR 192",
            **made,
        )
        self.copy_patient_and_study_information(as_secondary_capture(header))


def load_tables() -> None:
    """Have highdicom read its tables of the standard, which take half a second, before a result waits for them."""
    SOPClass(
        study_instance_uid="2.25.1",
        series_instance_uid="2.25.2",
        sop_instance_uid="2.25.3",
        sop_class_uid=SecondaryCaptureImageStorage,
        series_number=1,
        instance_number=1,
        modality="OT",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_date=date.min,
    )


def made_by(findings: Findings, identifiers: ResultIdentifiers) -> dict[str, Any]:
    """Arguments of highdicom's constructors that are the same for each kind of result."""
    created = identifiers.created or datetime.now()
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model_name(findings.model),
        "software_versions": long_string(findings.model.version),
        "device_serial_number": long_string(findings.model.weights_sha256),
        "content_qualification": "RESEARCH",
        "content_date": created.date(),
        "content_time": created.time(),
        "series_date": created.date(),
        "series_time": created.time(),
    }


def tell_making(dataset: Dataset, findings: Findings, identifiers: ResultIdentifiers) -> None:
    """Date a result and add RCMed to its Contributing Equipment Sequence (PS3.3 C.12.1): model, weights, prompts, time.

    Equipment that is there stays: of the source, and of the library that wrote the object.
    """
    identifiers.date(dataset)
    model = findings.model
    equipment = ContributingEquipment(
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=model_name(model),
        software_versions=long_string(model.version),
        device_serial_number=long_string(model.weights_sha256),
        contribution_datetime=identifiers.created or datetime.now(),
        contribution_description=making_in_words(findings),
    )
    dataset.ContributingEquipmentSequence = [*dataset.get("ContributingEquipmentSequence", []), equipment]


def making_in_words(findings: Findings) -> str:
    """Weights, prompts and instruction, as a value of ST (at most 1024 characters)."""
    prompts = "; ".join(finding.prompt for finding in findings.findings if finding.prompt) or "(none: recognise)"
    comment = f"{RESEARCH}, not verified. weights_sha256: {findings.model.weights_sha256}. prompts: {prompts}."
    if findings.instruction:
        comment += f" instruction: {findings.instruction}"
    return short_text(comment)


def short_text(text: str) -> str:
    """`text` as a value of ST: no control characters, at most 1024 characters (PS3.5 6.2)."""
    return unlimited_text(text)[:_LONGEST_SHORT_TEXT]
