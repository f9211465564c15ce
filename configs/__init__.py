"""Settings as YAML; they travel in the wheel, and a test compares them with the defaults of the settings classes."""
