"""Findings as pictures, for viewers that show no SEG."""
