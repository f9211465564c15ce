"""Headers of DICOM instances, read no further than is needed and believed no further than is sound."""
