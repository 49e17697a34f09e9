"""What detects anomalies: one folder per method."""
