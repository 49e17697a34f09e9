"""The progress bar of all long work that comes in pieces."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cops_lightning.core.reporting import console


def counted_progress(shown: bool = True) -> Progress:
    """A bar on stderr with a description, how many pieces are done, and the time left; it goes when the work ends."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console(stderr=True), transient=True, disable=not shown)
