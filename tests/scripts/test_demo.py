"""`make demo`, with a command that takes no time in the place of `cops-train`, and a clock of its own."""

import re
import sys
import time

import pytest

import demo
import lines
from cli.studies import write_study

# Two steps, then the results of all its runs; as jobs end it says so.
STAND_IN = """\
#!{python}
import sys, time
from pathlib import Path
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
variant = words.get("variant", words.get("model"))
seeds = words.get("seed", "0").split(",")
print("chatter of a library")
for number, seed in enumerate(seeds):
    for step in (1, 2):
        print(f"Epoch {{step}}/2: 5/10, 00:01 left", file=sys.stderr, flush=True)
        time.sleep({pause})
    folder = Path("runs/demo", f"{{variant}}{{seed}}")
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text(
        "variant,seed,category,level,metric,value\\n"
        f"{{variant}},{{seed}},part,image,auroc,0.1\\n{{variant}},{{seed}},mean,image,auroc,0.5\\n"
        f"{{variant}},{{seed}},mean,image,auroc,0.7\\n{{variant}},{{seed}},mean,pixel,auroc,\\n"
    )
    print(f"{{number + 1}} of {{len(seeds)}} jobs ended.", flush=True)
sys.exit({code})
"""


class Clock:
    """Time passes where the demo waits, and nowhere else."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(0.02)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    clock = Clock()
    for module in (demo, lines):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "TRAIN", tmp_path / "cops-train")
    monkeypatch.setattr(demo, "conclude", lambda: print("table"))
    return clock


def stand_in(code: int = 0, pause: float = 0.1) -> None:
    demo.TRAIN.write_text(STAND_IN.format(python=sys.executable, code=code, pause=pause))
    demo.TRAIN.chmod(0o755)


@pytest.mark.slow
def test_the_demo_says_at_any_moment_what_runs_how_far_it_is_and_what_is_left(clock, capsys, tmp_path):
    stand_in()
    assert demo.main(["targets=[mine]"]) == 0
    *said, last = capsys.readouterr().out.splitlines()
    assert last == "table"
    assert any("0 of 11 runs, about " in line and " left. " in line for line in said)
    assert any("cops 0-1: Epoch 1/2: 5/10, 00:01 left" in line for line in said)
    # The mean over targets, in percent; a metric that no target has is left out.
    numbers = [line.split("  ")[1] for line in said if "AUROC" in line]
    assert numbers.count("cops, seed 2: image AUROC 60.0 %") == 1
    assert len(numbers) == 11
    assert "chatter" not in "".join(said)
    assert "chatter" in (tmp_path / "runs" / "demo" / "cops 2.log").read_text()


def test_no_silence_is_longer_than_ten_seconds_however_long_the_commands_are_silent(clock, capsys):
    stand_in(pause=0.05)
    demo.main([])
    times = [60 * int(m) + int(s) for m, s in re.findall(r"^ *(\d+):(\d\d)  ", capsys.readouterr().out, re.MULTILINE)]
    gaps = [after - before for before, after in zip([0, *times], [*times, clock.now], strict=True)]
    # A command is silent for 0.05 s, in which the clock goes on by some 15 s.
    assert max(gaps) <= 10 < times[-1]


def test_a_command_that_fails_is_named_with_its_log_and_the_others_go_on(clock, capsys):
    stand_in(code=3, pause=0)
    assert demo.main([]) == 1
    said = capsys.readouterr().out
    for name in demo.COMMANDS:
        assert f"{name} failed, see runs/demo/{name}.log" in said
    assert "table" not in said


def test_what_is_left_is_the_longer_of_two_sides_at_the_pace_of_the_runs_that_ended(clock):
    plan = {name: sum(command.seconds) for name, command in demo.COMMANDS.items()}
    begun = demo.Demo([])
    # The first two side by side, then each on the side that is free first.
    sides = [0.0, 0.0]
    for seconds in plan.values():
        sides = sorted([sides[0] + seconds, sides[1]])
    assert begun.remaining(0) == max(sides)
    begun.waiting = ["cops 2"]
    assert begun.remaining(0) == plan["cops 2"]
    begun.took, begun.planned = 90, 60  # everything takes half as long again
    assert begun.remaining(0) == 1.5 * plan["cops 2"]
    begun.waiting, begun.working = [], {"cops 2": demo.Working("cops 2")}
    assert begun.remaining(30) == 1.5 * plan["cops 2"] - 30


def test_a_run_that_takes_longer_than_planned_slows_the_pace_before_it_ends(clock):
    begun = demo.Demo([])
    begun.waiting, begun.working = ["clip"], {"cops 2": demo.Working("cops 2")}
    (planned,), (clip,) = demo.COMMANDS["cops 2"].seconds, demo.COMMANDS["clip"].seconds
    pace = (demo.PRIOR + 3 * planned) / (demo.PRIOR + planned)
    assert begun.remaining(3 * planned) == pytest.approx(pace * clip)


def test_at_the_end_stand_a_table_what_it_means_and_the_path_of_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_study(demo.STUDY, {"cops": 0.05, "clip": 0.05, "random_backbone": -0.2})
    demo.conclude()
    *table, means, _, page = capsys.readouterr().out.splitlines()
    assert table[0].startswith(demo.TITLE)
    # 25 points above chance are found in every metric; between equals nothing is.
    better = (
        r"better than random_backbone in image AUROC \(\+2\d\.\d points\) and pixel AUROC \(.*\) and pixel AUPRO \(.*\)"
    )
    other = r"(not shown to differ from|equivalent to) clip"
    assert re.match(rf"What it means: for new seeds and datasets cops is .*{better}", means)
    assert re.search(other, means)
    assert (tmp_path / re.search(r"Open (\S+);", page)[1]).is_file()


def test_on_a_terminal_what_is_done_now_is_one_line_that_changes(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    shown = lines.Lines()
    shown.now("a" * 100)
    shown.now("b")
    shown.say("done")
    shown.end()
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert max(map(len, re.split(r"\r\x1b\[K|\n", said))) < 30
