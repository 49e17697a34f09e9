"""`cops-reproduce`: the paper's table, trained and tested anew, beside the published numbers."""

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from cops_lightning.cli.words import WordsCommand
from cops_lightning.core.errors import ConfigError, CopsError
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.core.places import require_apart, require_no_run
from cops_lightning.report.needs import require_report

if TYPE_CHECKING:
    from cops_lightning.runs.reproduction import Estimate, Experiment, Need, Plan

MORE = """\
First everything is checked: OpenAI's weights by their hash, each dataset by its numbers of images, its files and its
masks, room on the disk, every setting. All that is missing or wrong is one list, with where to get it, and then nothing
is run. A measurement of some seconds says how long it takes here. The same command goes on where it was interrupted.

examples:
  cops-reproduce check data=/data weights=ViT-L-14-336px.pt   what is missing, how long it will take, how much disk
  cops-reproduce data=/data weights=ViT-L-14-336px.pt         all of it, over three seeds
  cops-reproduce data=/data seeds=0,1,2,3,4 targets=[mvtec,visa]
  cops-reproduce data=/data released=[visa=visa.pth,mvtec=mvtec.pth]
                                                              the authors' checkpoints in place of training
  cops-reproduce data=/data settings=[hydra/launcher=processes,hydra.launcher.n_jobs=3]
                                                              three runs at a time; see cops-train --help

It runs  cops-train -m experiment=visa_to_rest  and  experiment=mvtec_to_visa  (cops-eval for released checkpoints),
with masks and images read as the authors' program does, and writes OUT/report.html and report.md: published, ours,
difference, spread, and for each difference whether seeds explain it; and which choices of protocol differ between
papers.
Exit code: 0 where all runs have results (with check: where nothing is missing), else 1."""

CHECK = "check"
# Settings of where a run lies, which the command has to find again.
PLACED = ("hydra.sweep.", "hydra.sweep=", "hydra.run.", "hydra.run=", "paths.output")
INTERRUPTED = "interrupted; the same command goes on from there."


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings:
    """Train CoPS as its paper does, test the 13 datasets, and set what comes out beside the published numbers.

    Args:
        data: folder that holds the datasets, each in a folder of its own; default: the environment variable
            COPS_DATA_ROOT.
        weights: OpenAI's ViT-L-14-336px.pt; default: the environment variable COPS_CLIP_WEIGHTS.
        seeds: a run of each; one alone says nothing about spread.
        released: the authors' checkpoints to evaluate in place of training, by what each was trained on, as
            [visa=FILE,mvtec=FILE] or one of them. Seeds are then draws at inference alone.
        targets: datasets to test, by name; all is the thirteen.
        backbone: frozen CLIP, a file of conf/backbone. Another than the paper's makes a rehearsal, which the page says.
        cache: folder of features; default: the environment variable COPS_CACHE, else a folder in ~/.cache.
        runs: folder of the runs.
        out: folder of the page.
        settings: further settings of cops-train or cops-eval, such as [data.num_workers=8,trainer.accelerator=cpu].
    """

    data: Path | None = None
    weights: Path | None = None
    seeds: list[Annotated[int, Ge(0)]] = field(default_factory=lambda: [0, 1, 2])
    released: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=lambda: ["all"])
    backbone: str = "vit_l14_336"
    cache: Path | None = None
    runs: Path = Path("runs")
    out: Path = Path("reproduction")
    settings: list[str] = field(default_factory=list)


COMMAND = WordsCommand("cops-reproduce", ReproduceSettings, f"[{CHECK}]", MORE, needs_words=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    return COMMAND.main(argv, reproduce, INTERRUPTED)


def reproduce(words: list[str], settings: ReproduceSettings) -> int:
    """Check, estimate, run, and write the page; returns the exit code."""
    if words not in ([], [CHECK]):
        near = did_you_mean(words[0], [CHECK])
        raise ConfigError(f"cops-reproduce takes the word {CHECK} or none; got {' '.join(words)!r}.{near}")
    require_no_run("out", settings.out)
    require_report("cops-reproduce")
    # Imported where used: they take seconds, and --help needs none of them.
    from cops_lightning.report.page import require_page_place
    from cops_lightning.runs.jobs import quiet_console
    from cops_lightning.runs.reproduction import Need, estimate

    require_page_place("out", settings.out)
    quiet_console()
    plan = _plan(settings)
    _show_plan(plan)
    print("\nIt needs (every image and mask is read whole, which takes some minutes)", flush=True)
    for need in plan.look():
        print(f"  {'MISSING OR WRONG  ' if need.wrong else ''}{need}", flush=True)
    problems = [*plan.problems, *_apart(settings.out, plan.needs)]
    found = None
    if not any(need.what == "settings" for need in problems):
        try:
            found = estimate(plan)
        except CopsError as error:
            if not any(str(error) in need.wrong for need in problems):
                problems.append(Need("estimate", "a measurement of how long it takes here", wrong=(str(error),)))
    if found is not None:
        _show_estimate(found)
        problems += found.room()
    plan.backbone = None  # the runs load their own
    if found is None or problems:
        _show_problems(problems)
        return 1
    if words == [CHECK]:
        print("\nAll is here. The same command without `check` begins.")
        return 0
    more = _budget(found, settings)
    code = 0
    for experiment in plan.experiments:
        code = _run(experiment, experiment.arguments(plan.seeds, *more)) or code
        if code > 1:  # a signal ended it
            return code
    return (
        _report(
            plan,
            settings,
            [_typed(experiment, experiment.arguments(plan.seeds, *more)) for experiment in plan.experiments],
        )
        or code
    )


def _plan(settings: ReproduceSettings) -> "Plan":
    from cops_lightning.config.options import options_of
    from cops_lightning.data.catalog import BENCHMARK, expand_targets, find_spec
    from cops_lightning.runs.reproduction import Plan, experiments, quoted

    if len(set(settings.seeds)) < len(settings.seeds) or not settings.seeds:
        raise ConfigError(f"seeds is {settings.seeds}; name at least one seed, and each once.")
    if settings.backbone not in (known := options_of("backbone")):
        near = did_you_mean(settings.backbone, known)
        raise ConfigError(f"There is no backbone {settings.backbone}.{near} Expected one of {', '.join(known)}.")
    for text in settings.settings:
        if text.lstrip("+~").startswith(PLACED):
            raise ConfigError(
                f"settings has {text.split('=')[0]}; where the runs lie is said by runs=FOLDER, or they would not be "
                "found again. Leave it out."
            )
    names = [find_spec(name).name for name in expand_targets(settings.targets)]
    if strange := [name for name in names if name not in BENCHMARK]:
        raise ConfigError(f"{strange[0]} is not among the thirteen of the paper, {', '.join(BENCHMARK)}.")
    common = [
        f"{key}={quoted(value)}"
        for key, value in (
            ("backbone", settings.backbone),
            ("backbone.weights", settings.weights),
            ("paths.data", settings.data),
            ("paths.cache", settings.cache),
            ("paths.runs", settings.runs),
        )
        if value is not None
    ]
    found = experiments(names, common, settings.settings, _released(settings.released))
    if not found:
        raise ConfigError(
            "No released checkpoint is for these targets: VisA is for one trained on MVTec-AD, every other for one "
            "trained on VisA."
        )
    return Plan(found, settings.seeds, _explained)


def _explained(error: CopsError) -> str:
    """As cops-train would say it of its command line."""
    from hydra.errors import HydraException

    from cops_lightning.cli.hydra_app import explained

    return explained(error.__cause__) if isinstance(error.__cause__, HydraException) else str(error)


def _released(given: Iterable[str]) -> dict[str, Path]:
    """Checkpoints by what they were trained on."""
    from cops_lightning.runs.reproduction import EXPERIMENTS

    found: dict[str, Path] = {}
    for part in [part for text in given for part in re.split(rf",(?=(?:{'|'.join(EXPERIMENTS)})=)", text)]:
        auxiliary, equals, file = part.partition("=")
        if not equals or auxiliary not in EXPERIMENTS or auxiliary in found:
            raise ConfigError(
                f"released is {part!r}; a released file does not say what it was trained on. Give "
                f"released=[{','.join(f'{name}=FILE' for name in EXPERIMENTS)}], each once, or one of them."
            )
        found[auxiliary] = Path(file).expanduser()
    return found


def _apart(out: Path, needs: Iterable["Need"]) -> list["Need"]:
    """What is wrong where the page would be written into a dataset."""
    from cops_lightning.runs.reproduction import Need

    try:
        require_apart("out", out, [need.root for need in needs if need.root is not None], "a dataset that is read")
    except CopsError as error:
        return [Need("out", "a folder apart from what is read", wrong=(str(error),))]
    return []


def _show_plan(plan: "Plan") -> None:
    from cops_lightning.data.catalog import find_spec

    runs, seeds = len(plan.experiments) * len(plan.seeds), ", ".join(map(str, plan.seeds))
    print(f"CoPS (arXiv 2508.03447), {runs} run{'s' if runs > 1 else ''}, seeds {seeds}")
    for experiment in plan.experiments:
        tested = ", ".join(find_spec(name).title for name in experiment.targets)
        how = "trained on" if experiment.checkpoint is None else f"{experiment.checkpoint}, trained on"
        print(f"  {how} {find_spec(experiment.auxiliary).title}, tested on {tested}")


def _show_estimate(found: "Estimate") -> None:
    pace = found.pace
    print(
        f"\nIt takes, measured on this machine ({found.device}), for {found.jobs} of {found.of} runs that are not done"
    )
    rows = [
        (found.encoding, f"to encode {found.images:,} images, {pace.encode:.3g} s each"),
        (found.training, f"to train, {pace.step:.3g} s a step"),
        (found.testing, f"to score and measure, {pace.score + pace.measure:.3g} s an image"),
        (found.seconds, "in all, one run after the other; heat maps, curves and reading come on top"),
    ]
    for seconds, what in rows:
        print(f"  {_duration(seconds):>12}  {what}")
    for disk in found.disks:
        free = f", where {_size(disk.free)} are free"
        for part in disk.parts:
            print(f"  {_size(part.bytes):>12}  of {part.what} in {part.folder}{free}")
            free = ""  # said once of a disk


def _duration(seconds: float) -> str:
    """In words, to two digits."""
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{int(seconds < 9.5 * size)}f} {word}"
    return f"{max(seconds, 1):.0f} s"


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _show_problems(problems: Sequence["Need"]) -> None:
    count = f"{len(problems)} thing{'s are' if len(problems) > 1 else ' is'}"
    print(f"\nerror: {count} missing or wrong. Nothing was run, and nothing was written.", file=sys.stderr)
    for number, need in enumerate(problems, 1):
        print(f"{number:3}. {need.what}: {need.expected}", file=sys.stderr)
        for sentence in need.wrong:
            print(f"       {sentence}", file=sys.stderr)
        if need.source:
            print(f"     > {need.source}", file=sys.stderr)


def _budget(found: "Estimate", settings: ReproduceSettings) -> list[str]:
    """Room for all features, or each run would give back what the next one needs."""
    key = "callbacks.feature_cache"
    if found.all_features is None or any(given.startswith(f"{key}.budget_gb") for given in settings.settings):
        return []
    return [f"{key}.budget_gb={found.budget}"]


def _typed(experiment: "Experiment", arguments: Sequence[str]) -> str:
    return shlex.join([f"cops-{experiment.program}", *arguments])


def _run(experiment: "Experiment", arguments: Sequence[str]) -> int:
    """The exit code of a command, run as if it were typed."""
    from cops_lightning.cli import evaluate, train

    print(f"\n{_typed(experiment, arguments)}", flush=True)
    return (train.APP if experiment.checkpoint is None else evaluate.APP).run(arguments)


def _report(plan: "Plan", settings: ReproduceSettings, commands: Sequence[str]) -> int:
    """Write the page of what there is; returns 1 where a run is missing."""
    from cops_lightning.core.reporting import console, say
    from cops_lightning.data.catalog import CATALOG
    from cops_lightning.report.collect import collect
    from cops_lightning.report.page import write_page
    from cops_lightning.report.reproduction import Reproduction, build_reproduction, console_table, rows_of

    folders, missing = [], []
    for experiment in plan.experiments:
        for seed in plan.seeds:
            folder = experiment.folder(seed)
            if folder is not None and experiment.is_done(seed):
                folders.append(folder)
            else:
                where = "was not begun" if folder is None else f"has no results, see {folder}"
                missing.append(f"The run on {experiment.auxiliary} with seed {seed} {where}.")
    if not folders:
        raise CopsError("No run has results, so there is no page. " + " ".join(missing))
    found = Reproduction(
        collect(folders),
        [(experiment.auxiliary, target) for experiment in plan.experiments for target in experiment.targets],
        {name: spec.title for name, spec in CATALOG.items()},
        plan.seeds,
        bool(settings.released),
        missing,
        [str(need) for need in plan.needs],
        commands,
        {experiment.auxiliary: experiment.protocol() for experiment in plan.experiments},
    )
    page = build_reproduction(found)
    write_page(page, settings.out)
    console().print(console_table(found, rows_of(found)))
    for caution in page.warnings:
        say(f"caution: {caution}")
    for line in page.answer:
        say(line)
    say(f"Page: {settings.out / 'report.html'}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
