"""Findings as DICOM objects beside the study: a Segmentation and a TID 1500 structured report."""
