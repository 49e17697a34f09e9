"""The known name that a misspelt one may mean, for error messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6, before: str = "") -> str:
    """A question with the known word that is most like `word`, behind a space; "" where none is like it.

    `before` is put in front of that word.
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f" Did you mean '{before}{near[0]}'?" if near else ""
