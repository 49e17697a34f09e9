"""Features and prompts to scores and losses: alignment, spatial weighting, anomaly maps."""
