"""The report, a module per section: each finds what it speaks of, and says it in text, tables and figures."""
