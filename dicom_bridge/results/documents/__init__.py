"""Findings as a report to read."""
