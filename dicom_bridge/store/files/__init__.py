"""The state folder: its lock, the files of instances, what is removed from it."""
