"""The status page: what arrived, what was found, where it went, what went wrong."""
