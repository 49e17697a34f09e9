"""Signals that ask a process to end: what is under way ends as after an exception, so that what it holds is let go."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminable(forwarded: bool = False) -> Iterator[list[int]]:
    """SIGTERM and SIGHUP end the block as an exception does, so that what happened is recorded; the exit code is 128
    and the signal's number.

    The list holds the signal once it came. One that is ignored, as by nohup, stays so. One that is `forwarded` goes to
    the parent process, which ends this one.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where a launcher runs jobs in threads
        yield came
        return
    owner = os.getpid()
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:  # a worker that was forked from us
            os.kill(os.getpid(), number)
        if forwarded:
            return os.kill(os.getppid(), number)
        came.append(number)
        raise SystemExit(128 + number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
