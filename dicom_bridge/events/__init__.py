"""What happened: one sink that counts for Prometheus, writes the audit trail and hands spans to OpenTelemetry."""
