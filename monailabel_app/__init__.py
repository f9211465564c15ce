"""RCMed as a MONAI Label app: infer, train, active learning and scoring, used from 3D Slicer and OHIF."""

from monailabel_app import compatibility

# Before any module of MONAI Label is imported; in its child processes too, which import this package first.
compatibility.install()
