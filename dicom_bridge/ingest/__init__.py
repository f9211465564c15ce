"""The ways in: on disk and in the index before anything is acknowledged."""
