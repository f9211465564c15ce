"""Errors of the bridge. They hang on the tree of `rcmed.errors`, so that one `except InputError` holds for all input.

InputError
├── UnreadableFileError
│   └── TransferSyntaxError     the encoding of the pixels is one that nothing here decodes
├── GeometryError
│   └── SeriesGeometryError     the slices of a series lie on no regular, right-angled grid
└── UnsuitablePixelsError       an image, but its values are not what its modality promises (a colour capture of a CT)
"""

from __future__ import annotations

from rcmed.errors import GeometryError, InputError, UnreadableFileError


class NotThereError(LookupError):
    """Somebody names a study, a job, a delivery or an upload that there is not, or not any more."""


class TransferSyntaxError(UnreadableFileError):
    """No decoder for this transfer syntax; the text names it."""


class SeriesGeometryError(GeometryError):
    """The slices of a series are no regular stack: missing, repeated, tilted, of several orientations, ..."""


class UnsuitablePixelsError(InputError):
    """An image, but its values are not what its modality promises."""
