"""Findings as DICOM objects beside the study: a Segmentation and a TID 1500 structured report."""

import warnings

from dicom_bridge.results.identifiers import ResultIdentifiers
from dicom_bridge.results.reading import Segment, read_segments
from dicom_bridge.results.report import build_report
from dicom_bridge.results.segmentation import build_segmentation
from dicom_bridge.results.writing import write_result

# highdicom quotes the patient's name where it has one component only; no log may hold it.
warnings.filterwarnings("ignore", message=".*is unlikely to represent the intended person name")

__all__ = ["ResultIdentifiers", "Segment", "build_report", "build_segmentation", "read_segments", "write_result"]
