"""Image and pixel metrics: exact, streaming, and in memory that a full test set fits into."""
