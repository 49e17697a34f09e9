"""What is said to the user: on which console, and where nobody reads it any more."""

import io
import logging
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from cops_lightning.core.names import printable

log = logging.getLogger(__name__)


def warn(sentence: str, error: BaseException | None = None) -> None:
    """Tell the user on the console, and in the log file with the traceback of what is behind it."""
    if log.hasHandlers():  # else logging prints it too
        log.warning("%s", sentence, exc_info=error)
    print(f"warning: {printable(sentence)}", file=sys.stderr)


class _Console(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        """A text in which only ends of lines are more than characters."""
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


def console(**options: Any) -> Console:
    """A console that prints names as they are: brackets are no markup, ":x:" is no picture, nor is the terminal told
    anything.
    """
    return _Console(markup=False, emoji=False, highlight=False, **options)


def say(line: str) -> None:
    """Print a line, of names too that come from files."""
    print(printable(line))


def print_any_name() -> None:
    """Let standard output show what it cannot encode, such as names that are not Unicode, as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _Lasting(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def outlive_readers() -> None:
    """From now on what is printed is lost, and nothing else is, once whoever reads it is gone, or its disk is full."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        at_once = stream.write_through  # PYTHONUNBUFFERED, which would otherwise keep back every line of progress
        if isinstance(stream.buffer if at_once else getattr(stream.buffer, "raw", None), _Lasting):
            continue
        stream.flush()
        raw = _Lasting(stream.fileno(), "w", closefd=False)
        lasting = io.TextIOWrapper(
            raw if at_once else io.BufferedWriter(raw),
            stream.encoding,
            stream.errors,
            line_buffering=stream.line_buffering,
            write_through=at_once,
        )
        setattr(sys, name, lasting)
