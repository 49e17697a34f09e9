"""How long the work takes, beside a plain implementation of the released program's way of doing it."""
