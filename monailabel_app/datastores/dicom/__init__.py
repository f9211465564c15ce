"""A datastore over an archive of DICOM: series are images, segmentations are labels."""
