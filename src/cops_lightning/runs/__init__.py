"""What a run is on disk: its identity, state and record, and the sweep that it belongs to."""
