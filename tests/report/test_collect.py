"""Which results count, and which of them share a row: finished runs of equal settings, over the same images."""

import hashlib
import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cops_lightning.core.errors import CopsError
from cops_lightning.core.measured import MetricRow
from cops_lightning.report.collect import CHANGED, collect
from cops_lightning.report.summaries import percent, summarise
from cops_lightning.report.tables import ResultRow, Run, write_results

SETTINGS = {"backbone": {"name": "ViT-B-16"}, "optimizer": {"lr": 0.001}}


def method_of(settings) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def run(folder, seed=0, variant="cops", status="done", value=0.5, images=9, started="2026-01-01", settings=SETTINGS,
        auxiliary="visa", **record):  # fmt: skip
    """A run folder; its method is the hash of its settings."""
    row = Run("r", method_of(settings), "s", variant, seed, auxiliary)
    rows = [ResultRow(row, MetricRow("btad", name, "image", "auroc", value, images, images)) for name in ("01", "mean")]
    write_results(folder / "results.csv", rows)
    backbone = {"name": "ViT-B-16", "fingerprint": "f" * 64}
    content = {"status": status, "started": started, "backbone": backbone, "method_settings": settings}
    (folder / "run.json").write_text(json.dumps(content | record))


def rows_of(root) -> dict[tuple[str, str], tuple[int, float]]:
    """The rows that a report shows for dataset means: by method and auxiliary dataset the number of seeds, the mean."""
    table = summarise(percent(collect([root]).results))
    means = table[table["category"] == "mean"]
    return {(r.method, r.auxiliary): (r.n, r.mean) for r in means.itertuples()}


def rate(lr):
    return SETTINGS | {"optimizer": {"lr": lr}}


def test_results_of_every_finished_run_are_one_table(tmp_path):
    run(tmp_path / "a", seed=0, value=0.25)
    run(tmp_path / "deep" / "er" / "b", seed=1, value=None)
    found = collect([tmp_path])
    assert len(found.results) == 4
    assert found.results["value"].isna().sum() == 2
    assert found.results["value"].min() == 0.25
    assert set(found.results["category"]) == {"01", "mean"}
    assert found.left_out == ()


def test_failed_and_running_runs_are_kept_as_jobs_and_give_no_results(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", seed=1, status="failed")
    run(tmp_path / "c", seed=2, status="running")
    found = collect([tmp_path])
    assert [job.status for job in found.jobs] == ["done", "failed", "running"]
    assert set(found.results["seed"]) == {0}


def test_results_that_were_changed_after_the_run_are_not_taken_and_that_is_said(tmp_path):
    for seed in (0, 1):
        run(tmp_path / f"{seed}", seed=seed)
        digest = hashlib.sha256((tmp_path / f"{seed}" / "results.csv").read_bytes()).hexdigest()
        run(tmp_path / f"{seed}", seed=seed, results_sha256=digest)
    assert set(collect([tmp_path]).results["seed"]) == {0, 1}
    results = tmp_path / "1" / "results.csv"
    results.write_text(results.read_text().replace("0.5", "0.9"))
    found = collect([tmp_path])
    assert set(found.results["value"]) == {0.5}
    assert [job.status for job in found.jobs] == ["done", CHANGED]
    with pytest.raises(CopsError, match=f"they are: {CHANGED}"):
        collect([tmp_path / "1"])
    results.unlink()
    assert set(collect([tmp_path]).results["seed"]) == {0}


def test_a_folder_given_twice_counts_once_and_a_file_stands_for_its_folder(tmp_path):
    run(tmp_path / "a")
    assert len(collect([tmp_path, tmp_path / "a", tmp_path / "a" / "results.csv"]).jobs) == 1


def test_of_a_seed_that_was_scored_twice_the_later_counts_and_the_earlier_is_named(tmp_path):
    run(tmp_path / "second", value=0.7, started="2026-01-02")
    run(tmp_path / "first", value=0.5, started="2026-01-01")
    found = collect([tmp_path])
    assert set(found.results["value"]) == {0.7}
    (said,) = found.left_out
    assert "first: cops, seed 0, on btad was scored again later, with other numbers" in said


def test_later_is_what_finished_later(tmp_path):
    run(tmp_path / "long", value=0.7, started="2026-01-01T00:00:00+00:00", duration_seconds=7200.0)
    run(tmp_path / "short", value=0.5, started="2026-01-01T01:00:00+00:00", duration_seconds=60.0)
    assert set(collect([tmp_path]).results["value"]) == {0.7}


def test_only_the_seed_that_was_scored_again_is_set_aside(tmp_path):
    # One file with two seeds, as a merge of files has it.
    run(tmp_path / "merged", seed=0)
    path = tmp_path / "merged" / "results.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *lines, *(line.replace(",0,visa", ",1,visa") for line in lines)]) + "\n")
    run(tmp_path / "again", seed=0, value=0.7, started="2026-01-02")
    found = collect([tmp_path]).results
    assert set(zip(found["seed"], found["value"], strict=True)) == {(0, 0.7), (1, 0.5)}


def test_a_repetition_with_equal_numbers_is_not_worth_a_word(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", started="2026-01-02")
    found = collect([tmp_path])
    assert len(found.results) == 2
    assert found.left_out == ()


def test_runs_over_fewer_images_are_not_averaged_with_the_others(tmp_path):
    run(tmp_path / "all", seed=0)
    run(tmp_path / "few", seed=1, images=3, value=0.9)
    found = collect([tmp_path])
    assert set(found.results["value"]) == {0.5}
    assert "few: 6 images of btad, while other runs of cops saw more" in found.left_out[0]


def test_weights_that_share_a_name_and_settings_are_told_apart(tmp_path):
    for name, value in (("a", 0.25), ("b", 0.75)):
        run(tmp_path / name, value=value, backbone={"name": "ViT-B-16", "fingerprint": name * 64})
    assert set(collect([tmp_path]).results["backbone"]) == {"ViT-B-16 aaaaaa", "ViT-B-16 bbbbbb"}
    assert rows_of(tmp_path) == {
        ("cops (weights=aaaaaa)", "visa"): (1, 25.0),
        ("cops (weights=bbbbbb)", "visa"): (1, 75.0),
    }


def test_names_with_commas_and_words_that_look_like_missing_values_are_read(tmp_path):
    run(tmp_path / "a", variant="NA")
    run(tmp_path / "b", variant="one, two", settings=rate(0.01))
    assert set(collect([tmp_path]).results["variant"]) == {"NA", "one, two"}


@pytest.mark.parametrize(("bad", "said"), [("1.5", "line 2: value is '1.5'"), ("many", "line 2: value is 'many'")])
def test_a_malformed_value_is_named_with_file_and_line(tmp_path, bad, said):
    run(tmp_path / "a")
    path = tmp_path / "a" / "results.csv"
    path.write_text(path.read_text().replace("0.5", bad))
    with pytest.raises(CopsError, match=said):
        collect([tmp_path])


def test_empty_places_say_what_to_give(tmp_path):
    with pytest.raises(CopsError, match=r"no results.csv or run.json below .* such as runs/ablations"):
        collect([tmp_path])
    with pytest.raises(CopsError, match="nowhere is no folder"):
        collect([tmp_path / "nowhere"])
    run(tmp_path / "a", status="failed")
    with pytest.raises(CopsError, match=r"None of the 1 runs .* has results \(they are: failed\)"):
        collect([tmp_path])


def test_published_values_are_known_for_every_dataset_of_the_benchmark():
    from cops_lightning.data.catalog import BENCHMARK, find_spec
    from cops_lightning.report.published import PROTOCOLS, published

    known = published()
    assert set(known["model"]) == set(PROTOCOLS)
    assert not known.duplicated(["model", "target", "level", "metric"]).any()
    assert known["source"].str.contains("arXiv").all()
    usual = {"CoPS": ("visa", "visa", "mvtec"), "AnomalyCLIP": ("mvtec", "mvtec", "visa")}
    for model, of_model in known.groupby("model"):
        most, other, for_other = usual[model]
        assert set(of_model["target"]) == set(BENCHMARK)
        for target, rows in of_model.groupby("target"):
            # Where a paper has pixel values the dataset has masks.
            assert ("pixel" not in set(rows["level"])) or find_spec(str(target)).has_masks
            assert set(rows["auxiliary"]) == {for_other if target == other else most}


def test_draws_of_random_weights_are_one_backbone(tmp_path):
    for seed in range(2):
        drawn = {"name": "ViT-B-16", "fingerprint": f"{seed}" * 64, "origin": f"random weights, seed {seed}"}
        run(tmp_path / str(seed), seed=seed, backbone=drawn)
    assert set(collect([tmp_path]).results["backbone"]) == {"ViT-B-16, random weights"}
    assert rows_of(tmp_path) == {("cops", "visa"): (2, 50.0)}


# ---- what shares a row


def test_a_sweep_under_one_label_has_a_row_per_setting(tmp_path):
    for seed in range(3):
        run(tmp_path / f"low{seed}", seed, value=(0.25, 0.5, 0.75)[seed], settings=rate(0.001))
        run(tmp_path / f"high{seed}", seed, value=0.125, settings=rate(0.01))
    assert rows_of(tmp_path) == {
        ("cops (optimizer.lr=0.001)", "visa"): (3, 50.0),
        ("cops (optimizer.lr=0.01)", "visa"): (3, 12.5),
    }
    found = collect([tmp_path])
    assert found.left_out == ()
    (note,) = found.notes
    assert note == "2 methods have the label cops (they differ in optimizer.lr): each has a row of its own."


def test_two_runs_at_one_rate_and_one_at_another_are_not_three_seeds(tmp_path):
    for seed, lr in enumerate((0.001, 0.001, 0.01)):
        run(tmp_path / str(seed), seed, value=(0.25, 0.75, 1.0)[seed], settings=rate(lr))
    assert rows_of(tmp_path) == {
        ("cops (optimizer.lr=0.001)", "visa"): (2, 50.0),
        ("cops (optimizer.lr=0.01)", "visa"): (1, 100.0),
    }


def test_one_label_of_two_models_is_two_rows(tmp_path):
    run(tmp_path / "a", variant="noise_1", value=0.25, settings={"model": {"components": {"states": False}}})
    run(tmp_path / "b", variant="noise_1", value=0.75, settings={"model": {"components": {"classes": False}}})
    assert set(rows_of(tmp_path)) == {
        ("noise_1 (model.components.classes unset, model.components.states=false)", "visa"),
        ("noise_1 (model.components.classes=false, model.components.states unset)", "visa"),
    }


def test_checkpoints_of_two_seeds_scored_by_one_command_are_two_seeds_of_one_method(tmp_path):
    for seed in range(2):
        run(tmp_path / f"checkpoint{seed}", seed, value=(0.25, 0.75)[seed])
    assert rows_of(tmp_path) == {("cops", "visa"): (2, 50.0)}
    assert collect([tmp_path]).left_out == collect([tmp_path]).notes == ()


def test_auxiliary_datasets_of_one_method_have_a_row_each(tmp_path):
    run(tmp_path / "a", value=0.25, auxiliary="visa")
    run(tmp_path / "b", value=0.75, auxiliary="mvtec")
    assert rows_of(tmp_path) == {("cops", "visa"): (1, 25.0), ("cops", "mvtec"): (1, 75.0)}


def test_two_labels_of_one_method_are_one_row_and_a_note(tmp_path):
    run(tmp_path / "a", seed=0, variant="static", value=0.25)
    run(tmp_path / "b", seed=1, variant="plain", value=0.75)
    assert rows_of(tmp_path) == {("static", "visa"): (2, 50.0)}
    (note,) = collect([tmp_path]).notes
    assert note == "The labels static, plain stand for equal settings: they are one method, static."


def test_a_later_run_never_takes_the_place_of_another_methods(tmp_path):
    run(tmp_path / "a", value=0.25, settings=rate(0.001), started="2026-01-01")
    run(tmp_path / "b", value=0.75, settings=rate(0.01), started="2026-01-02")
    found = collect([tmp_path])
    assert set(found.results["value"]) == {0.25, 0.75}
    assert found.left_out == ()


def test_methods_whose_settings_are_unknown_are_named_by_their_hash(tmp_path):
    run(tmp_path / "a", settings=rate(0.001))
    run(tmp_path / "b", settings=rate(0.01))
    (tmp_path / "b" / "run.json").unlink()
    assert {name for name, _ in rows_of(tmp_path)} == {f"cops ({method_of(rate(lr))[:8]})" for lr in (0.001, 0.01)}


def test_results_without_a_method_are_refused_with_the_file_and_the_way_out(tmp_path):
    run(tmp_path / "a")
    path = tmp_path / "a" / "results.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(run_id + rest) for run_id, rest in ((x[:1], x[2:]) for x in lines)))
    with pytest.raises(CopsError, match=r"a/results\.csv lacks the column method; .* Score again: with cops-eval"):
        collect([tmp_path])


scalars = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, 0.001, "1", "none", "a"])
nested = st.dictionaries(
    st.sampled_from("abc"), scalars | st.dictionaries(st.sampled_from("abc"), scalars, min_size=1), min_size=1
)
labels = st.sampled_from(["cops", "cops (a=1)", "noise_1", "cops (b.a=none)", "a, b"]) | st.text("ab (=)", min_size=1)


@st.composite
def one_apart(draw):
    """Two nested settings that differ in one: it has another value, or stands in one of them only."""
    given = draw(nested)
    other = json.loads(json.dumps(given))
    inside = draw(st.sampled_from([other, *(value for value in other.values() if isinstance(value, Mapping))]))
    key = draw(st.sampled_from("abcd"))
    before = inside.get(key)
    if key in inside and draw(st.booleans()):
        del inside[key]
    else:
        inside[key] = draw(scalars.filter(lambda value: json.dumps(value) != json.dumps(before) or key not in inside))
    return given, other


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(pair=one_apart(), label=labels, other_label=labels, same=st.booleans())
def test_runs_that_differ_in_one_setting_never_share_a_row_whatever_their_labels(
    tmp_path_factory, pair, label, other_label, same
):
    root = tmp_path_factory.mktemp("runs")
    for name, given_settings, variant, value in (
        ("a", pair[0], label, 0.25),
        ("b", pair[1], label if same else other_label, 0.75),
    ):
        for seed in range(2):
            run(root / f"{name}{seed}", seed, variant=variant, value=value, settings=given_settings)
    assert sorted(rows_of(root).values()) == [(2, 25.0), (2, 75.0)]
