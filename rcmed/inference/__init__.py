"""From a model and an image to masks and presence: slices, batches, volumes, what is kept for further prompts."""
