"""Lines for those who wait: the time since the beginning, what ended, and what is being done now."""

import shutil
import sys
import time


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Lines:
    """What is being done now is a line of a log, and on a terminal the last line, which changes in its place."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._write(f"{text}\n")

    def now(self, text: str) -> None:
        """What is being done."""
        if self.terminal:
            self._write(text, width=shutil.get_terminal_size().columns - 7)
        else:
            self._write(f"{text}\n")

    def end(self) -> None:
        """Leave nothing of what was being done on the terminal."""
        if self.terminal:
            print("\r\x1b[K", end="", flush=True)

    def _write(self, text: str, width: int | None = None) -> None:
        before = "\r\x1b[K" if self.terminal else ""
        print(f"{before}{clock(time.monotonic() - self.began):>4}  {text[:width]}", end="", flush=True)
