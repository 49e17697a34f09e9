"""What every command that takes plain arguments is: its --help, an exit code, and errors of one sentence."""

import argparse
import os
import sys
from collections.abc import Callable

from cops_lightning.core.errors import CopsError, of_system
from cops_lightning.core.reporting import print_any_name
from cops_lightning.core.stopping import terminable


def command(name: str, description: str, more: str) -> argparse.ArgumentParser:
    """The parser of a command, to which arguments can be added; its --help ends with `more` as it stands."""
    as_it_stands = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=name, description=description, epilog=more, formatter_class=as_it_stands)


def exit_code(run: Callable[[], int], interrupted: str = "interrupted.") -> int:
    """What `run` returns, or 1 after one sentence on stderr: what is wrong, or `interrupted` after Ctrl-C.

    After SIGTERM or SIGHUP it is 128 and the signal's number, and what `run` holds, a temporary folder, is let go.
    """
    print_any_name()
    came: list[int] = []
    try:
        with terminable() as came:
            code = run()
            if sys.stdout is not None:  # as it is where it was closed
                sys.stdout.flush()  # else it fails after the end, where nobody says so
            return code
    except SystemExit as end:
        if not came:
            raise
        print(f"error: {interrupted}", file=sys.stderr)
        return int(end.code or 0)
    except CopsError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"error: {interrupted}", file=sys.stderr)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {of_system(error)}", file=sys.stderr)
    return 1
