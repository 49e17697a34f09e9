"""How every command that takes plain arguments ends: an exit code, and errors of one sentence."""

import os
import sys
from collections.abc import Callable

from cops_lightning.core.errors import CopsError


def exit_code(run: Callable[[], int], interrupted: str = "interrupted.") -> int:
    """What `run` returns, or 1 after one sentence on stderr: what is wrong, or `interrupted` after Ctrl-C."""
    try:
        return run()
    except CopsError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"error: {interrupted}", file=sys.stderr)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
