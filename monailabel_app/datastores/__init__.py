"""Where images and labels of the annotation server live."""
