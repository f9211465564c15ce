"""Durable jobs: one series through one route, taken up again after a crash and never doubled."""
