"""What an estimate or a test says, or why it says nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its 95 % interval, None where the data do not suffice for one."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """Result of one test. `p` is two-sided, in [0, 1], and None where the data do not suffice; `why` then says why."""

    test: str
    statistic: float | None = None
    p: float | None = None
    why: str = ""

    def __str__(self) -> str:
        return f"{self.test}: {self.why}" if self.p is None else f"{self.test}: {state_p(self.p)}"


def too_few(test: str, unit: str, n: int, needs: int) -> Outcome:
    """The outcome of a test that was not made, because it needs more units than there are."""
    return Outcome(test, why=f"needs {needs} {unit}, has {n}")


def format_p(p: float) -> str:
    """A p-value for reading: two significant digits, three just below 0.05, never 0."""
    return "< 0.001" if p < 0.001 else f"{p:.{3 if 0.0495 <= p < 0.05 else 2}g}"


def state_p(p: float) -> str:
    """A p-value in a sentence: p = 0.03, p < 0.001."""
    form = format_p(p)
    return f"p {form}" if form.startswith("<") else f"p = {form}"
