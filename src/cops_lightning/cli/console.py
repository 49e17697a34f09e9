"""What every command that takes plain arguments is: its --help, an exit code, and errors of one sentence."""

import argparse
import os
import sys
from collections.abc import Callable

from cops_lightning.core.errors import CopsError, of_system
from cops_lightning.core.reporting import print_any_name


def command(name: str, description: str, more: str) -> argparse.ArgumentParser:
    """The parser of a command, to which arguments can be added; its --help ends with `more` as it stands."""
    as_it_stands = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=name, description=description, epilog=more, formatter_class=as_it_stands)


def exit_code(run: Callable[[], int], interrupted: str = "interrupted.") -> int:
    """What `run` returns, or 1 after one sentence on stderr: what is wrong, or `interrupted` after Ctrl-C."""
    print_any_name()
    try:
        return run()
    except CopsError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"error: {interrupted}", file=sys.stderr)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {of_system(error)}", file=sys.stderr)
    return 1
