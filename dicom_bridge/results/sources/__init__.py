"""The images that a result belongs to, and what it copies of them."""
