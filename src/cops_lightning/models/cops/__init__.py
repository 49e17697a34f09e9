"""CoPS: conditional prompt synthesis (arXiv 2508.03447)."""
