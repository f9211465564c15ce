"""Segmentations, written and read."""
