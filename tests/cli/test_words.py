"""What is typed behind a command becomes words and typed settings, and what is wrong with it is one sentence."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Interval

from cops_lightning.cli.words import DetectorSettings, WordsCommand, documented
from cops_lightning.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Oven(DetectorSettings):
    """Bake what is named.

    Not of the purpose.

    Args:
        level: which of the levels,
            counted from 1.
        share: of the heat.
        fan: whether it runs.
        program: what it does.
        labels: on the tray.
    """

    level: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    share: Annotated[float, Interval(gt=0, le=1)] = 0.5
    fan: bool = False
    program: Literal["bread", "cake"] = "bread"
    labels: list[str] | None = None


OVEN = WordsCommand("oven", Oven, "DOUGH ...", "examples:\n  oven rye checkpoint=a.ckpt")


def read(*words: str, checkpoint: str = "a.ckpt") -> Oven:
    return OVEN.read(["rye", f"checkpoint={checkpoint}", *words])[1]


def test_words_stand_anywhere_and_settings_have_the_types_of_their_fields():
    words, settings = OVEN.read(["rye", "level=3", "spelt*", "checkpoint=a.ckpt", "share=1", "fan=true", "device=null"])
    assert words == ["rye", "spelt*"]
    assert settings == Oven(checkpoint=Path("a.ckpt"), level=3, share=1.0, fan=True)
    assert read().level == read("level=auto").level == "auto"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", []),
        ("[a]", ["a"]),
        ("a", ["a"]),
        ("[a, b c]", ["a", "b c"]),
        ("['a,b',\"it's\"]", ["a,b", "it's"]),
        ("null", None),
        ("[x=1,~y]", ["x=1", "~y"]),
    ],
)
def test_lists_stand_in_brackets_and_quotes_keep_commas(text, expected):
    assert read(f"labels={text}").labels == expected


def test_a_path_may_hold_what_means_something_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read(checkpoint="epoch=3~step=9.ckpt").checkpoint == Path("epoch=3~step=9.ckpt")
    assert read(checkpoint="~/a.ckpt").checkpoint == tmp_path / "home" / "a.ckpt"
    Path("~").mkdir()
    Path("~/a.ckpt").touch()
    assert read(checkpoint="~/a.ckpt").checkpoint == Path("~/a.ckpt"), "a file of that name comes first"


def test_a_file_whose_name_reads_like_a_setting_is_a_word_if_no_setting_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("part=3.png").touch()
    assert OVEN.read(["part=3.png", "./part=4.png", "s3://b/x=1.png", "checkpoint=a"])[0] == [
        "part=3.png",
        "./part=4.png",
        "s3://b/x=1.png",
    ]
    Path("fan=true").touch()
    assert OVEN.read(["rye", "fan=true", "checkpoint=a"])[1].fan


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rye"], "checkpoint has no value, and oven needs it. Add checkpoint=VALUE."),
        (["checkpoint=a"], "oven needs a DOUGH. See oven --help."),
        (["rye", "checkpint=a"], "checkpint is no setting of oven. Did you mean 'checkpoint'?"),
        (["rye", "zzz=1"], "zzz is no setting of oven. It takes checkpoint, backbone, "),
        (["rye", "checkpoint=a", "fan=1", "fan=0"], "fan is given twice. Give it once."),
        (["rye", "", "checkpoint=a"], "oven got an empty word, as of a variable that is not set."),
        (["rye", "--fan"], "oven has no option '--fan'; its settings are given as KEY=VALUE."),
        (["rye", "level=0"], "level is '0'; expected whole number at least 1 or auto."),
        (["rye", "level=atuo"], "level is 'atuo'; expected whole number at least 1 or auto. Did you mean 'auto'?"),
        (["rye", "share=nan"], "share is 'nan'; expected number above 0 and at most 1."),
        (["rye", "share=1.5"], "share is '1.5'; expected number above 0 and at most 1."),
        (["rye", "fan=maybe"], "fan is 'maybe'; expected true or false."),
        (["rye", "program=caek"], "program is 'caek'; expected bread or cake. Did you mean 'cake'?"),
        (["rye", "checkpoint="], "checkpoint is ''; expected path."),
        (["rye", "labels=['a,b]"], "in which a quotation mark is not closed."),
    ],
)
def test_what_is_wrong_with_a_command_line_is_said(words, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        OVEN.read(words)


def test_errors_are_on_stderr_and_in_the_exit_code(capsys):
    assert OVEN.main(["rye"], lambda words, settings: 0) == 1
    assert capsys.readouterr().err == "error: checkpoint has no value, and oven needs it. Add checkpoint=VALUE.\n"
    assert OVEN.main(["rye", "checkpoint=a"], lambda words, settings: len(words) + 6) == 7


def test_a_command_without_words_says_so():
    command = WordsCommand("oven", Oven)
    assert command.read(["checkpoint=a"])[0] == []
    with pytest.raises(ConfigError, match="oven takes settings alone, such as checkpoint=VALUE; got 'rye'"):
        command.read(["rye", "checkpoint=a"])


def test_help_lists_every_key_with_its_type_default_and_meaning(capsys):
    assert OVEN.main(["--help"], lambda words, settings: 1) == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: oven DOUGH ... KEY=VALUE ...\n\nBake what is named.\n\nsettings:\n")
    assert "  checkpoint=   (path; needed)\n      the trained detector: a checkpoint" in said
    assert (
        "  level=   (whole number at least 1 | auto; default auto)\n      which of the levels, counted from 1.\n"
        in said
    )
    assert "  share=   (number above 0 and at most 1; default 0.5)\n" in said
    assert "  labels=   (list of text, as [A,B]; optional)\n" in said
    assert said.endswith("examples:\n  oven rye checkpoint=a.ckpt\n")
    purpose, meanings = documented(Oven)
    assert purpose == "Bake what is named."
    assert list(meanings)[:3] == ["checkpoint", "backbone", "auxiliary"]
    assert meanings["labels"] == "on the tray."


def test_help_needs_no_torch():
    looked = "import sys; from cops_lightning.cli.words import WordsCommand, DetectorSettings as D;"
    looked += "WordsCommand('x', D).main(['-h'], None); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False"
