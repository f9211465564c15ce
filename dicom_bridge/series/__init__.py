"""DICOM instances to `rcmed.image.Image`, honest about gaps, tilt, duplicates and mixed orientations."""
