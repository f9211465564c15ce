"""The stages after the masks are learned: presence, its thresholds, body regions."""
