"""The demo: real images go through the whole line on loopback, and what comes back is checked and shown."""
