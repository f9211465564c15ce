"""Receiving over DIMSE: on disk and in the index before success is answered."""
