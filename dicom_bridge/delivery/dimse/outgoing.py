"""A DICOM file that is to be sent, known by its file meta information."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian


@dataclass(frozen=True)
class Outgoing:
    """A DICOM file and what its file meta information says (PS3.10 7.1)."""

    path: Path
    sop_class_uid: UID
    instance_uid: UID
    transfer_syntax_uid: UID

    @property
    def is_convertible(self) -> bool:
        """Whether the data set may be written anew in another uncompressed little endian transfer syntax."""
        return self.transfer_syntax_uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def read_outgoing(path: Path) -> Outgoing:
    """Read a file's meta information.

    Raises:
        ValueError: not a DICOM file with complete file meta information; one line that says so.
    """
    try:
        meta = read_file_meta_info(path)
        return Outgoing(
            path, UID(meta.MediaStorageSOPClassUID), UID(meta.MediaStorageSOPInstanceUID), UID(meta.TransferSyntaxUID)
        )
    except Exception as error:  # pydicom raises whatever its parser met
        raise ValueError(f"{path}: not a DICOM file with file meta information ({type(error).__name__})") from None
