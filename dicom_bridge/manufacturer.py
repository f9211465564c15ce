"""How RCMed calls itself in the objects that it makes."""

MANUFACTURER = "RCMed"
"""Manufacturer (0008,0070) of every result; what bears it is no image to be looked at."""
