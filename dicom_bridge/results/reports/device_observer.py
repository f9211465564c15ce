"""Who looked: the model as a device observer, for reports and key object selections."""

from __future__ import annotations

from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.sr.codedict import codes

from dicom_bridge.manufacturer import MANUFACTURER
from dicom_bridge.results.codes import model_name, unlimited_text
from dicom_bridge.results.identifiers import derive_uid
from rcmed.findings import ModelIdentity


def observer(model: ModelIdentity) -> ObserverContext:
    """The model as a device observer (TID 1004), its weights as the serial number."""
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derive_uid("device", model.name, model.version, model.weights_sha256),
            name=model_name(model),
            manufacturer_name=MANUFACTURER,
            model_name=f"{model_name(model)} {model.version}",
            serial_number=unlimited_text(model.weights_sha256),
        ),
    )
