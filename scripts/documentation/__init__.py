"""The documentation site: pages gathered and generated, and the check of what was built."""
