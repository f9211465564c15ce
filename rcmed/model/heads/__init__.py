"""Small heads beside the masks: presence, and the body region that an image shows."""
