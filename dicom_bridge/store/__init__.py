"""Received instances: files whose paths come from validated UIDs, and an index of what is there."""
