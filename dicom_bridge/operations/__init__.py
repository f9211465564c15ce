"""What keeps a gateway running: heartbeat, retention, what operators do, and a look at what is configured."""
