"""RCMed as a MONAI Label app: infer, train, active learning and scoring, used from 3D Slicer and OHIF."""
