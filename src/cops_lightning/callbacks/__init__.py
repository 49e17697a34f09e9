"""Lightning callbacks: what a run does around training and testing."""
