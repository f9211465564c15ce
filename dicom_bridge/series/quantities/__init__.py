"""What the numbers of pixels mean: HU, standardised uptake values."""
