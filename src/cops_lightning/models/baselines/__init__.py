"""Detectors to compare CoPS with: nothing in here learns."""
