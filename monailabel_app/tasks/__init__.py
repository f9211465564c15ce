"""MONAI Label's tasks: infer, train, next sample, scoring."""
