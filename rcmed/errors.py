"""Every error that RCMed raises on purpose.

RCMedError
├── InputError            the input can't be used: one line that names the file, the tag or key, and the mend
│   ├── UnreadableFileError   the file can't be read or decoded
│   │   └── UnknownFormatError    the file is of no format that this reader knows
│   ├── NotAnImageError       the file is readable, but holds no image (a report, a segmentation, ...)
│   └── GeometryError         the pixels are readable, but their geometry is not what is claimed or needed
│       └── GridMismatchError     two things that should lie on one grid do not
├── ConfigurationError    a setting is unknown, missing or out of range
└── CheckpointError       a model folder is incomplete, damaged or of another architecture
"""

from __future__ import annotations


class RCMedError(Exception):
    """Root of all errors that RCMed raises on purpose; its text is fit to be shown to a user as it is."""


class InputError(RCMedError):
    """The input can't be used. The text names the file, the tag or key, and the mend."""


class UnreadableFileError(InputError):
    """The file can't be read or its pixels can't be decoded."""


class UnknownFormatError(UnreadableFileError):
    """The file is of no format that this reader knows; another reader may be asked."""


class NotAnImageError(InputError):
    """The file is readable but holds no image (a report, a segmentation, a plan, ...)."""


class GeometryError(InputError):
    """The pixels are readable, but their geometry is inconsistent or insufficient."""


class GridMismatchError(GeometryError):
    """Two things that should lie on one grid do not; the text names both."""


class ConfigurationError(RCMedError):
    """A setting is unknown, missing or out of range. The text names the key and the mend.

    Attributes:
        lines: one for each mistake.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class CheckpointError(RCMedError):
    """A model folder is incomplete, damaged or of another architecture."""
