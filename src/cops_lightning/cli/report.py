"""`cops-report`: what many runs say together, as a page to read, tables for a paper, and numbers to go on with."""

import argparse
import gc
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cops_lightning.cli.console import command, exit_code
from cops_lightning.core.errors import CopsError
from cops_lightning.core.places import require_apart, require_no_run
from cops_lightning.report.metric_names import DEFAULT_METRICS, METRICS, Metric
from cops_lightning.report.needs import require_report

KNOWN = {"/".join(metric): metric for metric in METRICS}

MOST_CLAIMS = 12
WIDE = 200  # columns of a table that goes into a file, where no terminal limits it

EXAMPLES = f"""\
examples:
  cops-report runs/seed_variance                        mean, spread and intervals of one study
  cops-report runs/static_prompts --compare cops static_prompts
                                                        is the first better than the second?
  cops-report runs --compare 'cops (optimizer.lr=0.001)' 3f2a
                                                        a method by its name, another by its hash
  cops-report runs --scope these_datasets               for new seeds on these very datasets
  cops-report runs --out paper/report --metric image/auroc --metric pixel/ap
  cops-report runs/ablations --published 1.4            is a published margin of 1.4 points beyond the noise of seeds?

It finds every results.csv below the given folders, takes those of finished runs, and writes into --out:
  report.html    one page, figures included, for a browser without a network
  report.md      the same for a repository; its figures lie in figures/
  tables/*.tex   booktabs tables for a paper; tables/*.csv the numbers behind each of them

A method is all runs of equal settings, seen over seeds; runs with other settings or another auxiliary dataset are never
averaged together. It is called by its variant (cops, without_states, ...), with the settings that differ where several
methods have that label. A claim is "better", "worse", "equivalent" (within --margin) or "undecided"; interval and p
come from one model of seeds x datasets, and Holm's adjustment is over all claims of the page: --compare and --metric
choose them. Where there is too little data there is no p-value, and the page says what is missing.

In Python: from cops_lightning.report import load, compare

metrics: {", ".join(KNOWN)}
Exit code: 0 where a report was written, 1 where it could not be, 2 where arguments are missing or unknown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    collects = gc.isenabled()
    gc.disable()  # the records of thousands of runs would be searched for garbage again and again, and make none
    try:
        return exit_code(lambda: report(arguments))
    finally:
        if collects:
            gc.enable()


def report(arguments: argparse.Namespace) -> int:
    """Collect, analyse, write; print the verdicts and where the report is."""
    require_report("cops-report")
    # Here, not above: help and completion answer without pandas, matplotlib and torch.
    from cops_lightning.core.reporting import console, say
    from cops_lightning.report.build import build_page
    from cops_lightning.report.collect import collect
    from cops_lightning.report.page import require_page_place, write_page
    from cops_lightning.report.study import Asked, Study
    from cops_lightning.report.summaries import comparison_table

    began = time.monotonic()
    for option, value in (("--margin", arguments.margin), ("--looks", arguments.looks)):
        if not value > 0:
            raise CopsError(f"{option} is {value:g}; expected a number above 0.")
    require_no_run("--out", arguments.out)
    require_page_place("--out", arguments.out)
    metrics: Sequence[Metric] = [_metric(name) for name in arguments.metric] or DEFAULT_METRICS
    asked = Asked(arguments.compare, metrics, arguments.margin, arguments.scope, arguments.looks, arguments.published)
    collection = collect(arguments.runs)
    datasets = [data for job in collection.jobs for _, _, data in job.datasets]
    require_apart("--out", arguments.out, _folders(arguments.out, datasets), "a dataset of these runs")
    study = Study.of(collection, asked)
    page = build_page(study, arguments.title)
    write_page(page, arguments.out)
    shown = console(width=None if sys.stdout.isatty() else WIDE)
    shown.print(comparison_table(study.frame, arguments.title))
    say(page.summary[0])
    for caution in page.warnings:
        say(f"caution: {caution}")
    say(page.question)
    for line in page.answer:
        say(f"  {line}")
    for claim in study.claims[:MOST_CLAIMS]:
        say(f"- {claim}")
    if len(study.claims) > MOST_CLAIMS:
        say(f"- {len(study.claims) - MOST_CLAIMS} more claims stand in the report.")
    say(f"Report: {arguments.out / 'report.html'} ({time.monotonic() - began:.1f} s)")
    return 0


def _folders(out: Path, datasets: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    """Those of datasets that `out` may not lie in: beside a file that lists one it may."""
    for root, layout in {(str(data["root"]), str(data.get("layout"))) for data in datasets}:
        if not layout.endswith((".json", ".jsonl", ".csv")) or out.resolve() == Path(root).resolve():
            yield Path(root)


def _metric(name: str) -> Metric:
    if name not in KNOWN:
        raise CopsError(f"--metric is {name!r}; expected one of {', '.join(KNOWN)}.")
    return KNOWN[name]


def _parser() -> argparse.ArgumentParser:
    parser = command("cops-report", "Read the results of many runs, say what they show and what they do not.", EXAMPLES)
    parser.add_argument("runs", metavar="RUNS", type=Path, nargs="+", help="folders below which the runs lie")
    parser.add_argument(
        "--compare",
        metavar="METHOD",
        nargs="+",
        help="the first method against each of the others, by label, by name or by the start of its hash, four "
        "characters or more (default: cops against all)",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("report"), help="where to write (default: report)"
    )
    parser.add_argument(
        "--metric",
        metavar="LEVEL/METRIC",
        action="append",
        default=[],
        help="what to compare, one of those listed below, may be repeated (default: "
        f"{', '.join(map('/'.join, DEFAULT_METRICS))})",
    )
    parser.add_argument(
        "--margin",
        metavar="POINTS",
        type=float,
        default=1.0,
        help="differences below it do not matter: within it methods are equivalent (default: 1)",
    )
    parser.add_argument(
        "--scope",
        choices=("new_datasets", "these_datasets"),
        default="new_datasets",
        help="what claims are to hold for: new seeds and other datasets of this kind, or new seeds on these very "
        "datasets (default: new_datasets)",
    )
    parser.add_argument(
        "--looks",
        metavar="N",
        type=int,
        default=1,
        help="how often, at most, you look at results while adding seeds; p-values are multiplied by it (default: 1)",
    )
    parser.add_argument(
        "--published",
        metavar="POINTS",
        type=float,
        help="a difference between two single runs that was reported somewhere, to be set against the noise of seeds",
    )
    parser.add_argument("--title", default="CoPS results", help="heading of the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
