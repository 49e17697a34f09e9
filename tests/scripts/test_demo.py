"""`make demo`, with a command that takes no time in the place of `cops-train`."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo.py"
# Two steps of 0.3 s, then the results of all its runs.
STAND_IN = """\
#!{python}
import sys, time
from pathlib import Path
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
variants = words.get("variant", words.get("model")).split(",")
print("chatter of a library")
for step in (1, 2):
    print(f"Epoch {{step}}/2: 5/10, 00:01 left", file=sys.stderr, flush=True)
    time.sleep(0.3)
for variant in variants:
    for seed in words.get("seed", "0").split(","):
        folder = Path("runs/demo", f"{{variant}}{{seed}}")
        folder.mkdir(parents=True)
        (folder / "results.csv").write_text(
            "variant,seed,category,level,metric,value\\n"
            f"{{variant}},{{seed}},part,image,auroc,0.1\\n{{variant}},{{seed}},mean,image,auroc,0.5\\n"
            f"{{variant}},{{seed}},mean,image,auroc,0.7\\n{{variant}},{{seed}},mean,pixel,auroc,\\n"
        )
sys.exit({code})
"""


@pytest.fixture
def demo(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "COMMAND", tmp_path / "cops-train")
    monkeypatch.setattr(module, "EVERY", 0.1)
    return module


def stand_in(demo, code: int = 0) -> None:
    demo.COMMAND.write_text(STAND_IN.format(python=sys.executable, code=code))
    demo.COMMAND.chmod(0o755)


def test_the_demo_says_at_any_moment_what_runs_how_far_it_is_and_what_is_left(demo, capsys, tmp_path):
    stand_in(demo)
    assert demo.main(["targets=[mine]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("0 of 11 runs, about " in line and " left. " in line for line in lines)
    assert any("cops 0-1: Epoch 1/2: 5/10, 00:01 left; hand-written: Epoch 1/2: 5/10" in line for line in lines)
    # The mean over targets, in percent; a metric that no target has is left out.
    numbers = [line.split("  ")[1] for line in lines if "AUROC" in line]
    assert numbers.count("cops, seed 2: image AUROC 60.0 %") == 1
    assert len(numbers) == 11
    assert "chatter" not in "".join(lines)
    assert "chatter" in (tmp_path / "runs" / "demo" / "cops 2.log").read_text()


def test_a_command_that_fails_is_named_with_its_log_and_the_others_go_on(demo, capsys):
    stand_in(demo, code=3)
    assert demo.main([]) == 1
    said = capsys.readouterr().out
    for name in demo.COMMANDS:
        assert f"{name} failed, see runs/demo/{name}.log" in said


def test_what_is_left_shrinks_with_what_is_done_at_the_pace_so_far(demo):
    everything = sum(demo.SECONDS[variant] for variants, _ in demo.COMMANDS.values() for variant in variants)
    assert demo.remaining([], 10) == everything / 2 - 10
    half = ["cops", "cops"]
    share = sum(demo.SECONDS[variant] for variant in half) / everything
    assert demo.remaining(half, 60) == pytest.approx(60 / share - 60)
