"""Batches of a training step: which images, what is asked of them, how they are varied."""
