"""Results go to destinations: application entities, DICOMweb and FHIR servers, HL7 receivers, folders; all alike."""

from __future__ import annotations

from pathlib import Path

from dicom_bridge.delivery.destination import Destination
from dicom_bridge.delivery.dimse.c_store import CStoreTarget
from dicom_bridge.delivery.dimse.commitment import CommitmentReports
from dicom_bridge.delivery.fhir import FhirTarget
from dicom_bridge.delivery.folder import FolderTarget
from dicom_bridge.delivery.orthanc import OrthancTarget
from dicom_bridge.delivery.stow import StowTarget
from dicom_bridge.settings import (
    AnyDestination,
    CStoreDestination,
    DeliverySettings,
    FhirDestination,
    MllpDestination,
    OrthancDestination,
    StowDestination,
)


def open_destination(
    settings: AnyDestination,
    state_folder: Path,
    patience: DeliverySettings,
    reports: CommitmentReports | None = None,
) -> Destination:
    """The destination that a configuration names; nothing is connected yet.

    Args:
        settings: of the destination.
        state_folder: what a relative folder is relative to.
        patience: how long answers may take.
        reports: where reports of storage commitment arrive that peers bring to our DICOM port.
    Raises:
        ConfigurationError: a file that the settings name can't be used.
    """
    if isinstance(settings, CStoreDestination):
        return CStoreTarget(settings, patience.timeout_seconds, reports, patience.commitment_seconds)
    if isinstance(settings, StowDestination):
        return StowTarget(settings, patience.timeout_seconds)
    if isinstance(settings, OrthancDestination):
        return OrthancTarget(settings, patience.timeout_seconds)
    if isinstance(settings, MllpDestination):
        from dicom_bridge.delivery.mllp import MllpTarget  # with hl7, which no other destination needs

        return MllpTarget(settings, patience.timeout_seconds)
    if isinstance(settings, FhirDestination):
        return FhirTarget(settings, patience.timeout_seconds)
    return FolderTarget(state_folder / settings.path)
