"""Sub-commands of `rcmed` that need DICOM, registered by entry points."""
