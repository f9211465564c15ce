"""Evaluation: metrics per target, tables, overlay pictures."""
