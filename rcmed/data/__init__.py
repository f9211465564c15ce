"""Data: images, masks and what is known of them."""
