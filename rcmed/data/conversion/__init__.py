"""Public data sets, and folders of one's own, to the published index format that `rcmed train` reads."""

from rcmed.data.conversion.converter import Conversion, convert
from rcmed.data.conversion.layouts import Layout, load_layouts

__all__ = ["Conversion", "Layout", "convert", "load_layouts"]
