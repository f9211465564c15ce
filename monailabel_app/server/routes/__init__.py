"""The HTTP interface of MONAI Label, a router a file."""
