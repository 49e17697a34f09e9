"""Comparing state dicts, so that what does not fit is named and nothing is loaded by half."""

from collections.abc import Callable

from cops_lightning.core.types import StateDict

SHOWN = 4


def mismatches(given: StateDict, expected: StateDict, optional: Callable[[str], bool] = lambda _name: False) -> str:
    """What keeps `given` from filling `expected`, in words: missing and unexpected names, other shapes; "" if nothing.

    Names for which `optional` holds may be missing. The first few problems are spelt out, the others counted.
    """
    problems = [
        *(f"missing {name}" for name in expected if name not in given and not optional(name)),
        *(f"unexpected {name}" for name in given if name not in expected),
        *(
            f"{name} has shape {tuple(given[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in expected
            if name in given and given[name].shape != expected[name].shape
        ),
    ]
    more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
    return "; ".join(problems[:SHOWN]) + more
