"""The model: configuration, processor, networks."""
