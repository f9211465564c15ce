"""The gateway as one whole: its rooms put together, and what it opens to others."""
