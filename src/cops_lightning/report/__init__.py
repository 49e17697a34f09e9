"""Results for people: tidy CSV, summary tables, heat maps, and the report over many runs.

from cops_lightning.report import load, compare

results = load("runs/static_prompts")
compare(results, "cops", "static_prompts")
"""

from typing import TYPE_CHECKING, Any

from cops_lightning.report.needs import require_report

if TYPE_CHECKING:
    from cops_lightning.report.claims import compare
    from cops_lightning.report.collect import load

__all__ = ["compare", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `compare`, imported when they are first asked for: a command's help needs neither pandas nor scipy."""
    if name in __all__:
        require_report(f"cops_lightning.report.{name}")
    if name == "compare":
        from cops_lightning.report.claims import compare

        return compare
    if name == "load":
        from cops_lightning.report.collect import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
