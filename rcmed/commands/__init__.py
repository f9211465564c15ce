"""The commands of `rcmed`, one file each; `pyproject.toml` names them as entry points."""
