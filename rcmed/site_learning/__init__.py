"""Learning on site: corrections, few examples, the gate before a new version is served, and the way back."""
