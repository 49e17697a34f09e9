"""Results for people: tidy CSV, summary tables, heat maps, and the report over many runs."""
