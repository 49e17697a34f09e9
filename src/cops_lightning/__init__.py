"""CoPS, conditional prompt synthesis for zero-shot anomaly detection (arXiv 2508.03447)."""
