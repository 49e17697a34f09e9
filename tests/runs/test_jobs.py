"""How jobs end: what signals do, and that the reader of the output may go away."""

import io
import os
import signal
import sys

import pytest

from cops_lightning.core.reporting import outlive_readers
from cops_lightning.core.stopping import terminable


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_is_an_exception_with_the_exit_code_that_shells_report(number):
    before = signal.signal(number, signal.SIG_DFL)  # nohup ignores one
    try:
        with pytest.raises(SystemExit) as ended, terminable() as came:
            assert not came
            os.kill(os.getpid(), number)
        assert (ended.value.code, came) == (128 + number, [number])
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable() as came:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not came
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("gone", [True, False])
def test_what_is_printed_after_its_reader_has_gone_is_lost_and_nothing_else(gone, monkeypatch):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        outlive_readers()
        monkeypatch.setattr(sys, "stderr", io.StringIO())  # has no file, and stays as it is
        outlive_readers()
        if gone:
            reader.close()
        print("a line", flush=True)
        if not gone:
            assert reader.readline() == b"a line\n"
        sys.stdout.close()


def test_what_is_printed_without_a_buffer_comes_at_once_after_that_too(monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    raw = os.fdopen(writing, "wb", buffering=0)
    with os.fdopen(reading, "rb", buffering=0) as reader, io.TextIOWrapper(raw, write_through=True) as unbuffered:
        monkeypatch.setattr(sys, "stderr", unbuffered)  # as PYTHONUNBUFFERED has it
        outlive_readers()
        lasting = sys.stderr
        outlive_readers()
        assert sys.stderr is lasting
        print("Epoch 1/2: 3/10", file=sys.stderr)
        assert reader.read() == b"Epoch 1/2: 3/10\n"
