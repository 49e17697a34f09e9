"""What is said of an error that does not reach the user by itself."""

import logging
import sys

from cops_lightning.core.errors import CopsError

log = logging.getLogger(__name__)
LONGEST = 500  # characters of a line of an error that is not ours; some quote all of their input


def described(error: BaseException) -> str:
    """What went wrong: our own errors are sentences, of others the kind and the first line."""
    said = str(error).strip()
    if isinstance(error, CopsError) and said:
        return said
    first = said.splitlines()[0][:LONGEST] if said else ""
    return type(error).__name__ + (f": {first}" if first else "")


def warn(sentence: str, error: BaseException | None = None) -> None:
    """Tell the user on the console, and in the log file with the traceback of what is behind it."""
    log.warning("%s", sentence, exc_info=error)
    print(f"warning: {sentence}", file=sys.stderr)
