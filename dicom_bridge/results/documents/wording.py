"""What reports and messages say of a finding, in the words of a reader: what was asked, and what became of it."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_bridge.results.codes import finding_name
from dicom_bridge.results.provenance import RESEARCH
from dicom_bridge.value_representation import written_name
from rcmed.findings import Finding, FindingStatus

WARNING = f"{RESEARCH}. Made by a program and verified by nobody: not for diagnosis, not for treatment."
NOTHING_RECOGNISED = "Nothing that the model knows was recognised in the image."

_OUTCOMES = {
    FindingStatus.FOUND: "found",
    FindingStatus.UNCERTAIN: "uncertain",
    FindingStatus.ABSENT: "not found",
    FindingStatus.IMPLAUSIBLE: "not found, implausible",
    FindingStatus.UNRESOLVED: "not looked for",
}


def outcome(finding: Finding) -> str:
    """What became of a prompt: "found", "not found", "not looked for", ...; the reason is not in it."""
    return _OUTCOMES[finding.status]


def asked(finding: Finding) -> str:
    """What was asked: the target's name, with the words that asked for it where they are others."""
    name = finding_name(finding)
    if not finding.prompt or finding.prompt.casefold() == name.casefold():
        return name
    return f'{name} (asked: "{finding.prompt}")'


def in_words(finding: Finding) -> str:
    """A finding in a sentence: its description, else its name with what became of it and why."""
    if finding.description:
        return finding.description
    return f"{finding_name(finding)}: {outcome(finding)}" + (f" ({finding.reason})" if finding.reason else "")


def shown_name(header: Dataset) -> str:
    """Patient's Name (0010,0010) as people write it, "Family, Given Middle"; "" where there is none."""
    return written_name(str(header.get("PatientName") or ""))


def shown_date(date: str) -> str:
    """A value of DA as ISO 8601 writes it; as it is where it is none."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def shown_time(time: str) -> str:
    """A value of TM as "hh:mm"; "" where it has no minutes."""
    return f"{time[:2]}:{time[2:4]}" if len(time) >= 4 and time[:4].isdigit() else ""
