"""Training: sampling, augmentation, losses, the loop."""
