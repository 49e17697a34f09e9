"""The progress bar of all long work that comes in pieces."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def counted_progress(shown: bool = True) -> Progress:
    """A bar on stderr with a description, how many pieces are done, and the time left; it goes when the work ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
