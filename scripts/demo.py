"""Five ways to detect anomalies, two commands at a time: what runs, how far it is, how long it still takes.

Arguments are added to the commands that can use real images: 'targets=[procedural,mvtec]' paths.data=FOLDER
"""

import csv
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

COMMAND = Path(sys.executable).with_name("cops-train")
STUDY = Path("runs/demo")
AT_ONCE = 2
EVERY = 5.0  # seconds between two lines
# What a run of each variant takes on one core.
SECONDS = {"cops": 100, "handcrafted": 15, "clip": 30, "static_prompts": 40, "random_backbone": 25}
# Of each command the variants of its runs, and its arguments.
RANDOM = ["variant=random_backbone", "backbone.pretrained=random", "backbone.seed=${seed}", "data.limit=120"]
COMMANDS = {
    "cops 0-1": (2 * ["cops"], ["model=cops", "seed=0,1", "callbacks.heat_maps.count=3"]),
    "hand-written": (["handcrafted", "clip"], ["model=handcrafted,clip"]),
    "random": (3 * ["random_backbone"], [*RANDOM, "seed=0,1,2"]),
    "static_prompts": (3 * ["static_prompts"], ["model=static_prompts", "seed=0,1,2"]),
    "cops 2": (["cops"], ["model=cops", "seed=2"]),
}

working: dict[str, str] = {}  # what each command that runs said last
began = time.monotonic()


def say(text: str) -> None:
    print(f"{clock(time.monotonic() - began)}  {text}", flush=True)


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def work(name: str, real: list[str]) -> bool:
    """Do a command, its output in a log; returns whether it failed."""
    words = [str(COMMAND), "-m", "experiment=demo", *COMMANDS[name][1], *([] if name == "random" else real)]
    working[name] = "starting"
    file = STUDY / f"{name}.log"
    with (
        file.open("w", encoding="utf-8") as log,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.endswith((" left\n", " left.\n", " ended.\n")):
                working[name] = line.strip()
    del working[name]
    if process.returncode:
        say(f"{name} failed, see {file}")
    return process.returncode != 0


def read(results: Path) -> tuple[str, str]:
    """The variant of a run that has ended, and its numbers in a line."""
    with results.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] == "mean" and row["metric"] == "auroc"]
    levels: dict[str, list[float]] = {}
    for row in rows:
        if row["value"]:
            levels.setdefault(row["level"], []).append(float(row["value"]))
    numbers = ", ".join(f"{level} AUROC {100 * fmean(values):.1f} %" for level, values in levels.items())
    return rows[0]["variant"], f"{rows[0]['variant']}, seed {rows[0]['seed']}: {numbers}"


def remaining(ended: list[str], elapsed: float) -> float:
    """Seconds that the rest takes at the pace so far; what runs counts as half done."""
    everything = sum(SECONDS[variant] for variants, _ in COMMANDS.values() for variant in variants)
    if not ended:
        return everything / AT_ONCE - elapsed
    half = sum(SECONDS[COMMANDS[name][0][-1]] for name in working) / 2
    return elapsed * (everything / (sum(SECONDS[variant] for variant in ended) + half) - 1)


def main(real: list[str]) -> int:
    """Run all commands; returns 1 if one failed."""
    STUDY.mkdir(parents=True, exist_ok=True)
    runs = sum(len(variants) for variants, _ in COMMANDS.values())
    told, ended, ends = set[Path](), list[str](), began + remaining([], 0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        commands = [pool.submit(work, name, real) for name in COMMANDS]
        while not all(command.done() for command in commands):
            time.sleep(EVERY)
            now = time.monotonic()
            for results in sorted(set(STUDY.glob("*/results.csv")) - told):
                told.add(results)
                variant, numbers = read(results)
                say(numbers)
                if variant in SECONDS:
                    ended.append(variant)
                    ends = now + remaining(ended, now - began)
            here = "; ".join(f"{name}: {doing}" for name, doing in sorted(working.items()))
            say(f"{len(ended)} of {runs} runs, about {clock(max(EVERY, ends - now))} left. {here}")
    return int(any(command.result() for command in commands))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
