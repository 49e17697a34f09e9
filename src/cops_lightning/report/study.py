"""What a report is about: the collected results, the methods that are compared, and the claims that come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from cops_lightning.core.errors import CopsError
from cops_lightning.core.measured import MEAN
from cops_lightning.report.claims import Cells, Claim, adjust, average, compare_all, frame, read_cells
from cops_lightning.report.collect import Collection, Scores, read_scores
from cops_lightning.report.methods import find_method
from cops_lightning.report.metric_names import DEFAULT_METRICS, Metric
from cops_lightning.report.stats.crossed import SCOPES, Scope
from cops_lightning.report.summaries import percent, summarise
from cops_lightning.report.tables import NOTHING

FULL = "cops"


@dataclass(frozen=True)
class Asked:
    """What is asked of the results.

    Args:
        methods: Names, labels or starts of hashes of those to compare, the first with each other one; by default all,
            `cops` first.
        metrics: What to compare them in.
        margin: Differences below it do not matter, in points.
        scope: What the claims are to hold for.
        looks: How often, at most, results are looked at while seeds are added.
        published: A difference between two single runs that somebody reported, in points.
    """

    methods: Sequence[str] | None = None
    metrics: Sequence[Metric] = DEFAULT_METRICS
    margin: float = 1.0
    scope: Scope = "new_datasets"
    looks: int = 1
    published: float | None = None


@dataclass(frozen=True)
class Study:
    """The collected results, and what was asked of them. `methods` are the names of those compared, in order."""

    collection: Collection
    asked: Asked
    methods: tuple[str, ...]

    @classmethod
    def of(cls, collection: Collection, asked: Asked) -> "Study":
        """Raises CopsError for a method that no run has or that stands for several, or if fewer than two are named."""
        if asked.methods is None:
            names = [m.name for m in sorted(collection.methods, key=lambda m: (m.labels[0] != FULL, m.name))]
        else:
            names = list(dict.fromkeys(find_method(collection.methods, name).name for name in asked.methods))
            if len(names) < 2:
                raise CopsError(
                    f"--compare names {', '.join(asked.methods)}; a comparison needs two different methods."
                )
        return cls(collection, asked, tuple(names))

    @property
    def first(self) -> str:
        """The method that the others are compared with."""
        return self.methods[0]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The results in percent."""
        return percent(self.collection.results)

    @cached_property
    def means(self) -> pd.DataFrame:
        """The results of whole datasets."""
        return self.frame[self.frame["category"] == MEAN].dropna(subset=["value"])

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean, deviation and interval over seeds."""
        return summarise(self.frame)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Method, auxiliary, seed and backbone by job."""
        columns = ["method", "auxiliary", "seed", "backbone"]
        return self.frame.drop_duplicates("job").set_index("job")[columns]

    @cached_property
    def cells(self) -> Mapping[Metric, Cells]:
        """Zero-shot values of every metric that is asked for."""
        return {metric: read_cells(self.means, *metric) for metric in self.asked.metrics}

    def tables(self, metric: Metric) -> dict[str, pd.DataFrame]:
        """By method a table of datasets x seeds, for what shows all of them side by side.

        Trained on the same auxiliary datasets, those of the first method that most methods have; of several the mean. A
        method that was trained on others alone has no table.
        """
        cells = {method: self.cells[metric][method] for method in self.methods if method in self.cells[metric]}
        if self.first not in cells:
            return {}
        counts = {name: sum(name in of for of in cells.values()) for name in cells[self.first] if name != NOTHING}
        kept = [name for name, count in counts.items() if count == max(counts.values())]
        found = {}
        for method, of in cells.items():
            if kept and all(name in of for name in kept):
                found[method] = frame(average([of[name] for name in kept]))
            elif NOTHING in of:
                found[method] = frame(of[NOTHING])
        return found

    def claims_in(self, scope: Scope) -> list[Claim]:
        """The first method against each other one in every metric, as one family."""
        pairs = [(self.first, b) for b in self.methods[1:]]
        return adjust(compare_all(self.cells, pairs, self.asked.margin, scope), self.asked.looks)

    @cached_property
    def claims(self) -> list[Claim]:
        """Those of the scope that is asked for."""
        return self.claims_in(self.asked.scope)

    @cached_property
    def other_claims(self) -> list[Claim]:
        """Those of the other scope, in the same order."""
        return self.claims_in(next(scope for scope in SCOPES if scope != self.asked.scope))

    @cached_property
    def _known_scores(self) -> dict[int, dict[str, Scores]]:
        return {}

    def scores(self, job: int, dataset: str) -> Scores | None:
        """Image scores of a run on a dataset, by its name in the run; None if it left none."""
        if job not in self._known_scores:
            self._known_scores[job] = read_scores(self.collection.jobs[job])
        return self._known_scores[job].get(dataset)
