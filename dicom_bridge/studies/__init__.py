"""Studies: when one is complete, how urgent it is, and which routes take its series."""
