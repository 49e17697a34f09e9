"""Five ways to detect anomalies, two commands at a time: what runs, how far it is, how long it still takes.

Arguments are added to the commands that can use real images: 'targets=[procedural,mvtec]' paths.data=FOLDER
"""

import csv
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from lines import Lines, clock

if TYPE_CHECKING:
    from cops_lightning.report.claims import Claim

TRAIN = Path(sys.executable).with_name("cops-train")
STUDY = Path("runs/demo")
REPORT = STUDY / "report"
TITLE = "Demonstration backbone, unseen categories"
AT_ONCE = 2
EVERY = 5.0  # seconds between two lines of a log
EVERY_ON_A_TERMINAL = 1.0
WIDE = 120  # columns of the table in a log


class Command(NamedTuple):
    """Arguments of cops-train, and the seconds that each of its runs takes, as the one of two commands at a time.

    The first has to load the libraries and, where it is the first of all, to render and to encode images.
    """

    words: list[str]
    seconds: tuple[float, ...]


RANDOM = ["variant=random_backbone", "backbone.pretrained=random", "backbone.seed=${seed}", "data.limit=120"]
# In this order, so that nobody waits long for features that the first one computes.
COMMANDS = {
    "cops 0-1": Command(["model=cops", "seed=0,1", "callbacks.heat_maps.count=3"], (120, 45)),
    "handcrafted": Command(["model=handcrafted"], (25,)),
    "random": Command([*RANDOM, "seed=0,1,2"], (25, 18, 18)),
    "clip": Command(["model=clip"], (25,)),
    "static_prompts": Command(["model=static_prompts", "seed=0,1,2"], (25, 15, 15)),
    "cops 2": Command(["model=cops", "seed=2"], (50,)),
}
WORDS = {"better": "better than", "worse": "worse than", "equivalent": "equivalent to"}
PRIOR = 60.0  # seconds for which the plan is believed before the pace of this machine counts
ENDED = re.compile(r"(\d+) of (\d+) jobs ended")
WAITING = "warning: Another process adds features to the cache; waiting for it before those of "


class Working:
    """A command at work: which of its runs, since when, and what it said last."""

    def __init__(self, name: str) -> None:
        self.command, self.ended, self.doing = COMMANDS[name], 0, "starting"
        self.since = time.monotonic()

    def read(self, line: str) -> float | None:
        """Take in a line of its output; of a run that ends there the seconds it took."""
        if match := ENDED.match(line):
            self.ended, before, self.since = int(match[1]), self.since, time.monotonic()
            self.doing = "the next run" if self.ended < len(self.command.seconds) else "ending"
            return self.since - before
        if line.startswith(WAITING):
            self.doing = "waiting for the features of " + line.removeprefix(WAITING).rstrip(".\n")
        elif line.endswith(" left\n"):
            self.doing = line.strip()
        return None

    def late(self, now: float) -> bool:
        """Whether the run that is at work takes longer than planned."""
        return self.ended < len(self.command.seconds) and now - self.since > self.command.seconds[self.ended]

    def remaining(self, pace: float, now: float) -> float:
        """Seconds, where everything takes `pace` times what was planned."""
        planned = [pace * seconds for seconds in self.command.seconds[self.ended :]]
        return max(planned[0] - (now - self.since), 0) + sum(planned[1:]) if planned else 0


class Demo:
    """All commands, the first of those that wait next."""

    def __init__(self, real: Sequence[str]) -> None:
        self.real, self.lines = real, Lines()
        self.waiting, self.working = list(COMMANDS), dict[str, Working]()
        self.planned = self.took = PRIOR
        self.ended, self.told = 0, set[Path]()

    def work(self, name: str) -> bool:
        """Do a command, its output in a log; returns whether it failed."""
        self.waiting.remove(name)
        command = COMMANDS[name]
        words = [str(TRAIN), "-m", "experiment=demo", *command.words, *([] if name == "random" else self.real)]
        working = self.working[name] = Working(name)
        file = STUDY / f"{name}.log"
        with (
            file.open("w", encoding="utf-8") as log,
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                seconds = working.read(line)
                if seconds is not None:
                    self.took, self.planned = self.took + seconds, self.planned + command.seconds[working.ended - 1]
                    self.ended += 1
        del self.working[name]
        if process.returncode:
            self.lines.say(f"{name} failed, see {file}")
        return process.returncode != 0

    def remaining(self, now: float) -> float:
        """Seconds until all commands have ended, at the pace so far."""
        working, planned, took = list(self.working.values()), self.planned, self.took
        for late in [one for one in working if one.late(now)]:
            planned, took = planned + late.command.seconds[late.ended], took + now - late.since
        pace = took / planned
        ends = sorted(one.remaining(pace, now) for one in working)
        ends = [0.0] * (AT_ONCE - len(ends)) + ends
        for name in list(self.waiting):
            ends = sorted([ends[0] + pace * sum(COMMANDS[name].seconds), *ends[1:]])
        return ends[-1]

    def tell(self) -> None:
        """The numbers of runs that ended since, then what is being done."""
        for results in sorted(set(STUDY.glob("*/results.csv")) - self.told):
            self.told.add(results)
            self.lines.say(read(results))
        runs = sum(len(command.seconds) for command in COMMANDS.values())
        left = clock(max(EVERY, self.remaining(time.monotonic())))
        doing = "; ".join(f"{name}: {working.doing}" for name, working in sorted(self.working.items()))
        self.lines.now(f"{self.ended} of {runs} runs, about {left} left. {doing}")

    def run(self) -> bool:
        """Returns whether all commands did what they should."""
        STUDY.mkdir(parents=True, exist_ok=True)
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            commands = [pool.submit(self.work, name) for name in COMMANDS]
            while not all(command.done() for command in commands):
                time.sleep(EVERY_ON_A_TERMINAL if self.lines.terminal else EVERY)
                self.tell()
            return not any(command.result() for command in commands)
        finally:
            pool.shutdown(cancel_futures=True)
            self.lines.end()


def read(results: Path) -> str:
    """The numbers of a run in a line: means over targets."""
    with results.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] == "mean" and row["metric"] == "auroc"]
    levels: dict[str, list[float]] = {}
    for row in rows:
        if row["value"]:
            levels.setdefault(row["level"], []).append(float(row["value"]))
    numbers = ", ".join(f"{level} AUROC {100 * fmean(values):.1f} %" for level, values in levels.items())
    return f"{rows[0]['variant']}, seed {rows[0]['seed']}: {numbers}"


def meaning(claims: "Sequence[Claim]") -> str:
    """One sentence on what these claims, of one method against others, show."""
    from cops_lightning.report.metric_names import metric_name

    shown: dict[tuple[str, str], list[str]] = {}
    for claim in claims:
        of = claim.comparison
        if claim.verdict != "undecided":
            difference = f"{metric_name((of.level, of.metric))} ({of.difference:+.1f} points)"
            shown.setdefault((WORDS[claim.verdict], of.b), []).append(difference)
    others = dict.fromkeys(claim.comparison.b for claim in claims)
    undecided = [other for other in others if all(other != b for _, b in shown)]
    said = [f"{words} {b} in {' and '.join(differences)}" for (words, b), differences in shown.items()]
    if undecided:
        said.append(f"not shown to differ from {', '.join(undecided)}")
    return f"What it means: for new seeds and datasets {claims[0].comparison.a} is {'; '.join(said)}."


def conclude() -> None:
    """A table, what it means, and where the page is."""
    # Here, as they take seconds in which nothing would be said.
    from cops_lightning.core.reporting import console
    from cops_lightning.report.build import build_page
    from cops_lightning.report.collect import collect
    from cops_lightning.report.page import write_page
    from cops_lightning.report.study import Asked, Study
    from cops_lightning.report.summaries import comparison_table

    study = Study.of(collect([STUDY]), Asked())
    write_page(build_page(study, TITLE), REPORT)
    console(width=None if sys.stdout.isatty() else WIDE).print(comparison_table(study.frame, TITLE))
    print(meaning(study.claims))
    print("It is about a demonstration backbone; with a real CLIP the commands are the same and backbone=vit_l14_336.")
    print(f"Open {REPORT / 'report.html'}; heat maps are in {STUDY}/cops-procedural-seed0-*/heatmaps.")


def main(real: Sequence[str]) -> int:
    """Returns 1 if a command failed."""
    try:
        done = Demo(real).run()
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    if done:
        conclude()
    return int(not done)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
