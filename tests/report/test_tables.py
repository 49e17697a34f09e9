import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cops_lightning.core.errors import CopsError
from cops_lightning.core.measured import MetricRow
from cops_lightning.report.tables import (
    COLUMNS,
    ResultRow,
    Run,
    read_results,
    summary_markdown,
    summary_table,
    write_results,
)

RUN = Run(run_id="2024-05-01_a", method="0a1b", study="main", variant="released", seed=0, auxiliary="visa")
HEADER = "run_id,method,study,variant,seed,auxiliary,target,category,level,metric,value,n_normal,n_anomalous"


def measured(value, target="mvtec_ad", category="mean", level="image", metric="auroc") -> MetricRow:
    return MetricRow(target, category, level, metric, value, n_normal=467, n_anomalous=1258)


def shown(rows: list[MetricRow], title: str = "CoPS", width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(summary_table(rows, title))
    return file.getvalue()


def test_a_results_file_has_a_line_per_row_and_an_empty_cell_where_a_value_is_not_available(tmp_path):
    path = tmp_path / "runs" / "results.csv"
    write_results(path, [ResultRow(RUN, measured(0.1 + 0.2)), ResultRow(RUN, measured(None, level="pixel"))])
    assert path.read_bytes().decode() == (
        f"{HEADER}\n"
        "2024-05-01_a,0a1b,main,released,0,visa,mvtec_ad,mean,image,auroc,0.30000000000000004,467,1258\n"
        "2024-05-01_a,0a1b,main,released,0,visa,mvtec_ad,mean,pixel,auroc,,467,1258\n"
    )
    assert ",".join(COLUMNS) == HEADER


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
values = st.none() | st.floats(0, 1)
metric_rows = st.builds(
    MetricRow, names, names, st.sampled_from(["image", "pixel"]), names, values, st.integers(0, 9), st.integers(0, 9)
)
result_rows = st.builds(ResultRow, st.builds(Run, names, names, names, names, st.integers(), names), metric_rows)


@given(rows=st.lists(result_rows))
def test_what_is_written_is_read_back_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("results") / "results.csv"
    write_results(path, rows)
    assert read_results(path) == rows


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.csv"
    write_results(path, [ResultRow(RUN, measured(0.5))])
    before = path.read_bytes()

    def rows():
        yield ResultRow(RUN, measured(0.7))
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_results(path, rows())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_gives_rows_or_one_sentence(tmp_path):
    path, draw = tmp_path / "results.csv", random.Random(0)
    write_results(path, [ResultRow(RUN, measured(0.1 * number, category=f"c{number}")) for number in range(6)])
    whole = path.read_bytes()
    for _ in range(400):
        damaged = bytearray(whole)
        if draw.random() < 0.2:
            damaged[draw.randrange(len(whole)) :] = draw.randbytes(draw.randrange(9))
        for _ in range(draw.randrange(3)):
            at = draw.randrange(len(damaged) + 1)
            damaged[at : at + 1] = draw.choice([b"\0", b"\xff", b'"', b",", b"\n", b"\r", bytes([draw.randrange(256)])])
        path.write_bytes(damaged)
        try:
            read_results(path)
        except CopsError as error:
            found = str(error)
        else:
            continue
        assert found.startswith(str(path))
        assert "\n" not in found


def test_a_further_column_is_ignored(tmp_path):
    path = tmp_path / "results.csv"
    write_results(path, [ResultRow(RUN, measured(0.5))])
    head, line = path.read_text().splitlines()
    path.write_text(f"note,{head}\nchecked,{line}\n")
    assert read_results(path) == [ResultRow(RUN, measured(0.5))]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(tmp_path, column):
    path = tmp_path / "results.csv"
    path.write_text(",".join(name for name in COLUMNS if name != column) + "\n")
    with pytest.raises(CopsError, match=rf"results.csv lacks the column {column}; it needs run_id, .* Score again: "):
        read_results(path)


def test_an_empty_file_lacks_all_columns(tmp_path):
    path = tmp_path / "results.csv"
    path.touch()
    with pytest.raises(CopsError, match="lacks the column run_id, method, study"):
        read_results(path)


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("value", "95.1", r"line 2: value is '95.1', expected a number in \[0, 1\], or nothing"),
        ("value", "nan", r"value is 'nan', expected a number in \[0, 1\], or nothing"),
        ("value", "n/a", r"value is 'n/a', expected a number in \[0, 1\], or nothing"),
        ("seed", "", "seed is '', expected an integer"),
        ("level", "pixels", "level is 'pixels', expected image or pixel"),
        ("target", "", "target is '', expected a name"),
        ("method", "", "method is '', expected a name"),
        ("n_normal", "-1", "n_normal is '-1', expected a number of images"),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused_with_its_place(tmp_path, column, cell, message):
    path = tmp_path / "results.csv"
    cells = ["r", "m", "s", "v", "0", "visa", "btad", "mean", "image", "ap", "0.5", "1", "1"]
    cells[COLUMNS.index(column)] = cell
    path.write_text(f"{HEADER}\n{','.join(cells)}\n")
    with pytest.raises(CopsError, match=message):
        read_results(path)


def test_a_line_cut_short_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER}\nr,m,s,v,0,visa,btad,mean,image,ap,0.5,1\n")
    with pytest.raises(CopsError, match="line 2: n_anomalous is None, expected a number of images"):
        read_results(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CopsError, match=r"results\.csv does not exist\. Evaluate first"):
        read_results(tmp_path / "results.csv")


def test_the_summary_shows_means_in_percent_and_what_is_not_available():
    rows = [
        measured(0.9517),
        measured(0.1, category="bottle"),
        measured(0.4449, level="pixel", metric="aupro"),
        measured(1.0, target="brainmri", metric="f1_max"),
        measured(None, target="brainmri", level="pixel", metric="aupro"),
    ]
    lines = [line.split() for line in shown(rows, "CoPS, trained on VisA").splitlines()]
    assert lines[0] == ["CoPS,", "trained", "on", "VisA"]
    assert lines[2] == ["target", "AUROC", "AP", "F1-max", "AUROC", "AP", "F1-max", "AUPRO", "anomalous"]
    assert lines[4:] == [
        ["mvtec_ad", "95.2", "n/a", "n/a", "n/a", "n/a", "n/a", "44.5", "467+1258"],
        ["brainmri", "n/a", "n/a", "100.0", "n/a", "n/a", "n/a", "n/a", "467+1258"],
    ]


def test_the_markdown_table_holds_the_same_cells():
    assert summary_markdown([measured(0.9517), measured(0.5, level="pixel", metric="ap")], "CoPS").splitlines() == [
        "**CoPS**",
        "",
        "| target | image AUROC | image AP | image F1-max | pixel AUROC | pixel AP | pixel F1-max | pixel AUPRO "
        "| normal + anomalous |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| mvtec\\_ad | 95.2 | n/a | n/a | n/a | 50.0 | n/a | n/a | 467+1258 |",
    ]


def test_a_name_cannot_break_the_table():
    assert "| a\\|b |" in summary_markdown([measured(0.5, target="a|b")], "")
    assert "[bold]parts" in shown([measured(0.5, target="[bold]parts")], "[red]title")


def test_numbers_survive_a_narrow_console_and_a_long_name():
    text = shown([measured(0.98765, target="a_dataset_with_quite_a_long_name")], width=72)
    assert "98.8" in text
    assert "467+1258" in text


def test_a_summary_of_two_runs_is_refused():
    with pytest.raises(ValueError, match=r"mvtec_ad has more than one image auroc\. A summary shows one run"):
        summary_table([measured(0.5), measured(0.6)], "CoPS")
