"""The progress of all long work that comes in pieces: a bar on a terminal, a line every few seconds in a log."""

import sys
import time
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cops_lightning.core.reporting import console

EVERY = 5.0  # seconds between the lines of a log
COUNT, LEFT = MofNCompleteColumn(), TimeRemainingColumn(compact=True)
_last = time.monotonic()


def log_progress(progress: Progress) -> None:
    """Where no terminal shows a bar, a line on stderr: what is done, how much of it, and the time left.

    At most one every EVERY seconds, whichever bars there are.
    """
    global _last
    now = time.monotonic()
    if progress.console.is_terminal or progress.disable or now - _last < EVERY:
        return
    for task in progress.tasks:
        if task.visible and not task.finished:
            _last = now
            print(f"{task.description.strip()}: {COUNT.render(task)}, {LEFT.render(task)} left", file=sys.stderr)


class LoggedProgress(Progress):
    """A bar that leaves lines in a log."""

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task as `Progress.update` does."""
        super().update(task_id, **changes)
        log_progress(self)

    def advance(self, task_id: TaskID, advance: int | float = 1) -> None:
        """Say that so many more pieces are done."""
        super().advance(task_id, advance)
        log_progress(self)


def counted_progress(shown: bool = True) -> Progress:
    """A bar on stderr with a description, how many pieces are done, and the time left; it goes when the work ends."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return LoggedProgress(*columns, console=console(stderr=True), transient=True, disable=not shown)
