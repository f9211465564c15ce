"""Who may talk to the gateway, how it is encrypted, and how much anyone may bring."""
