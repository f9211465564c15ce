"""Codes and texts of the results in the form that highdicom and the value representations want."""

from __future__ import annotations

import re
from collections.abc import Mapping

from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as ConceptCode

from dicom_bridge.manufacturer import MANUFACTURER
from rcmed.codes import Code
from rcmed.findings import Finding, Findings, FindingStatus, ModelIdentity

# Private codes (PS3.16 8.2) are declared with their scheme in the objects that use them.
PRIVATE_SCHEME = "99RCMED"

IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic imaging study")
"""What a report is called that is not about one modality (LOINC)."""

PRESENCE: Mapping[FindingStatus, ConceptCode] = {
    FindingStatus.FOUND: codes.DCM.Present,
    FindingStatus.ABSENT: codes.DCM.Absent,
    FindingStatus.IMPLAUSIBLE: codes.DCM.Absent,
    FindingStatus.UNCERTAIN: codes.DCM.PresenceUndetermined,
}
"""What is said of a finding; nothing of a prompt that was not answered."""


def concept(code: Code) -> CodedConcept:
    """A code of ours as a coded concept; the meaning is cut to the 64 characters of LO."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=long_string(code.meaning))


def long_string(text: str, otherwise: str = "unknown") -> str:
    """`text` as a value of LO: at most 64 characters, no backslash, no control characters (PS3.5 6.2)."""
    cleaned = re.sub(r"[\x00-\x1f\x7f\\]+", " ", text).strip()
    return cleaned[:64].strip() or otherwise


def person_name(name: str) -> str:
    """`name` as a value of PN; one that is not parted into components is a family name alone (PS3.5 6.2.1)."""
    name = long_string(name.replace("=", " "))
    return name if "^" in name else f"{name[:63]}^"


def unlimited_text(text: str) -> str:
    """`text` as a value of UT: no control characters but line ends; never empty."""
    return re.sub(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]+", " ", text).strip() or "-"


def model_name(model: ModelIdentity) -> str:
    """The name of the model as the device that made the result."""
    name = model.name if model.name.lower().startswith("rcmed") else f"{MANUFACTURER} {model.name}"
    return long_string(name)


def algorithm(model: ModelIdentity, prompt: str) -> AlgorithmIdentificationSequence:
    """Who segmented: name, version, weights and prompt, family 123110 DCM "Artificial Intelligence" (CID 7162)."""
    return AlgorithmIdentificationSequence(
        name=model_name(model),
        version=long_string(model.version),
        family=codes.DCM.ArtificialIntelligence,
        source=MANUFACTURER,
        parameters={
            "weights_sha256": long_string(model.weights_sha256),
            # Commas and equals signs part the parameters.
            "prompt": unlimited_text(prompt).replace(",", ";").replace("=", ":")[:1024],
        },
    )


def finding_name(finding: Finding) -> str:
    """What a finding is called: the target's name, else the words that asked for it."""
    return finding.target.name if finding.target is not None else finding.prompt


def tracking_id(findings: Findings, number: int) -> str:
    """The tracking identifier of a finding: its name, numbered where several findings share it."""
    names = [finding_name(finding) for finding in findings.findings]
    name = names[number]
    if names.count(name) == 1:
        return unlimited_text(name)
    return unlimited_text(f"{name} {names[: number + 1].count(name)}")


_UNITS = {
    "1": "no units",
    "%": "percent",
    "mm": "millimeter",
    "cm": "centimeter",
    "mm2": "square millimeter",
    "cm2": "square centimeter",
    "mm3": "cubic millimeter",
    "cm3": "cubic centimeter",
    "[hnsf'U]": "Hounsfield unit",
    "{pixels}": "pixels",
    "{voxels}": "voxels",
    "Bq/ml": "Becquerels per milliliter",
    "{SUVbw}g/ml": "Standardized Uptake Value body weight",
}


def unit_concept(unit: str) -> CodedConcept:
    """A UCUM unit as a coded concept; a unit without a name of its own is called by its code."""
    return CodedConcept(value=unit, scheme_designator="UCUM", meaning=_UNITS.get(unit, unit))
