"""Training and evaluation around the method: Lightning modules, checkpoints, what a run leaves on disk."""
