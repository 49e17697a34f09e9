"""Results for people: tidy CSV, summary tables, heat maps."""

from cops_lightning.report.figures import Example, choose_examples, save_contact_sheet, save_heat_map
from cops_lightning.report.tables import (
    COLUMNS,
    ResultRow,
    Run,
    read_results,
    summary_markdown,
    summary_table,
    write_results,
)

__all__ = [
    "COLUMNS",
    "Example",
    "ResultRow",
    "Run",
    "choose_examples",
    "read_results",
    "save_contact_sheet",
    "save_heat_map",
    "summary_markdown",
    "summary_table",
    "write_results",
]
