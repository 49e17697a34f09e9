"""What a log says of long work, where no terminal shows a bar."""

import io

import pytest
from rich.console import Console

from cops_lightning.core import progress
from cops_lightning.core.progress import LoggedProgress, counted_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [0.0]
    monkeypatch.setattr(progress, "_last", 0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_says_every_few_seconds_how_far_the_work_is_and_what_is_left(clock, capsys):
    with counted_progress() as bar:
        bar.get_time = progress.time.monotonic
        step = bar.add_task("encoding parts", total=100)
        for _ in range(100):
            clock[0] += 0.25
            bar.advance(step)
    said = capsys.readouterr().err.split("\n")
    lines = [line for line in said if line.startswith("encoding parts: ")]
    # A piece takes a quarter of a second, so a line comes after every 20; after 100 all is done.
    assert [line.split(",")[0].split()[-1] for line in lines] == ["20/100", "40/100", "60/100", "80/100"]
    assert [line.rsplit(", ", 1)[1] for line in lines] == ["00:20 left", "00:15 left", "00:10 left", "00:05 left"]


def test_bars_one_after_the_other_share_the_pace_of_the_log(clock, capsys):
    for name in ("first", "second"):
        with counted_progress() as bar:
            step = bar.add_task(name, total=10)
            clock[0] += 4
            bar.update(step, completed=5)
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if "left" in line] == ["second"]


@pytest.mark.parametrize(("terminal", "shown"), [(True, True), (False, False)])
def test_a_terminal_and_work_that_shows_nothing_get_no_lines(terminal, shown, clock, capsys):
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with LoggedProgress(console=console, disable=not shown) as bar:
        step = bar.add_task("encoding", total=10)
        clock[0] += 60
        bar.advance(step, 5)
    assert "left" not in capsys.readouterr().err
