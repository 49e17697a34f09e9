"""`compare`: from a table of results to a verdict, and its calibration over studies without a difference."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cops_lightning.core.errors import CopsError
from cops_lightning.report import compare
from cops_lightning.report.claims import ALPHA, adjust
from cops_lightning.report.tables import NOTHING


def rows(method, values, seeds=None, auxiliary=None, datasets=None):
    """Results of one method from a table of datasets x seeds, in percent."""
    values = np.asarray(values, dtype=float)
    n_datasets, n_seeds = values.shape
    found = pd.DataFrame(
        {
            "method": method,
            "seed": [*(range(n_seeds) if seeds is None else seeds)] * n_datasets,
            "dataset": np.repeat(datasets or [f"target{number}" for number in range(n_datasets)], n_seeds),
            "value": values.ravel(),
        }
    )
    return found if auxiliary is None else found.assign(auxiliary=auxiliary)


def draw(n_datasets=8, n_seeds=5, share=0.24, difference=0.0, heterogeneity=0.3, seed=0, total=1.0):
    """Two methods whose differences have the variance `total` between seeds, `share` of it common to all datasets."""
    rng = np.random.default_rng(seed)
    level = 80 + rng.normal(0, 5, n_datasets)[:, None]
    half = total / 2  # of each of the two methods
    return [
        level
        + rng.normal(0, heterogeneity / np.sqrt(2), n_datasets)[:, None]
        + rng.normal(0, np.sqrt(share * half), n_seeds)
        + rng.normal(0, np.sqrt((1 - share) * half), (n_datasets, n_seeds))
        + plus
        for plus in (difference, 0.0)
    ]


def study(unpaired=False, **sizes):
    a, b = draw(**sizes)
    return pd.concat([rows("a", a), rows("b", b, range(100, 100 + b.shape[1]) if unpaired else None)])


# ---- what the design decides


def test_equal_seeds_are_paired():
    a, b = draw()
    found = compare(pd.concat([rows("a", a), rows("b", b)]), "a", "b", scope="these_datasets")
    expected = stats.ttest_rel(a.mean(axis=0), b.mean(axis=0))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx((a - b).mean())
    assert "5 seeds, paired, on 8 datasets" in found.why


def test_other_seeds_are_compared_as_samples_of_their_own_and_the_answer_says_so():
    a, b = draw(difference=5)
    found = compare(pd.concat([rows("a", a), rows("b", b, seeds=range(5, 10))]), "a", "b")
    assert found.verdict == "better"
    assert "not paired" in found.why
    assert found.difference == pytest.approx((a - b).mean())


@pytest.mark.parametrize("auxiliary", [(None, None), ("visa", NOTHING)])
def test_a_method_of_one_run_is_compared_with_all_seeds_of_the_other(auxiliary):
    # Against the first seed alone A would seem 2 points better; over all three it is 1 point worse.
    a = np.array([[82.0, 78.0, 77.0]] * 6)
    found = compare(pd.concat([rows("a", a, auxiliary=auxiliary[0]), rows("b", [[80.0]] * 6, auxiliary=auxiliary[1])]),
                    "a", "b", scope="these_datasets")  # fmt: skip
    assert found.difference == pytest.approx(-1)
    expected = stats.ttest_1samp([2.0, -2.0, -3.0], 0)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert "enters as a constant" in found.why


def test_the_one_run_of_a_trained_method_is_a_draw_of_a_seed_that_varies_as_the_others_do():
    # Means over datasets are 82, 78, 77 and 80: the difference of -1 has the variance s^2 (1/3 + 1), s^2 = 7.
    a, b = np.array([[82.0, 78.0, 77.0]] * 6), np.array([[80.0]] * 6)
    results = pd.concat([rows("a", a, auxiliary="visa"), rows("b", b, auxiliary="visa")])
    found = compare(results, "a", "b", scope="these_datasets")
    assert found.p_value == pytest.approx(2 * stats.t.sf(1 / np.sqrt(7 * 4 / 3), 2))
    assert "b has one run, and its seeds are taken to vary as much" in found.why


def test_a_method_that_repeats_itself_is_a_constant_whatever_its_seeds_are_called():
    a, b = draw()
    same = np.repeat(b[:, :1], 3, axis=1)
    once = compare(pd.concat([rows("a", a), rows("b", b[:, :1], auxiliary=None)]), "a", "b")
    thrice = compare(pd.concat([rows("a", a), rows("b", same, seeds=range(7, 10))]), "a", "b")
    assert (once.difference, once.interval) == (pytest.approx(thrice.difference), pytest.approx(thrice.interval))


def test_of_several_auxiliary_datasets_the_mean_counts_and_targets_stay_the_datasets():
    a, b = draw()
    parts = [rows("a", a + shift, auxiliary=name) for name, shift in (("visa", 1.0), ("mvtec", 3.0))]
    parts += [rows("b", b, auxiliary=name) for name in ("visa", "mvtec")]
    found = compare(pd.concat(parts), "a", "b")
    alone = compare(pd.concat([rows("a", a + 2), rows("b", b)]), "a", "b")
    assert (found.difference, found.p_value) == (pytest.approx(alone.difference), pytest.approx(alone.p_value))
    assert "8 datasets" in found.why
    assert "mean over the auxiliary datasets visa, mvtec" in found.why


def test_an_untrained_method_stands_beside_every_auxiliary_dataset_and_counts_once():
    a, b = draw()
    parts = [rows("a", a, auxiliary=name) for name in ("visa", "mvtec")]
    found = compare(pd.concat([*parts, rows("b", b[:, :1], auxiliary=NOTHING)]), "a", "b")
    alone = compare(pd.concat([rows("a", a), rows("b", b[:, :1])]), "a", "b")
    assert found.p_value == pytest.approx(alone.p_value)


def test_a_seed_that_lacks_a_dataset_is_left_out_and_named():
    a, b = draw()
    lacking = rows("a", a).query("not (seed == 4 and dataset in ('target0', 'target1'))")
    found = compare(pd.concat([lacking, rows("b", b)]), "a", "b")
    assert found.difference == pytest.approx((a - b)[:, :4].mean())
    assert "without 1 run that lack" in found.why


def test_rows_that_were_trained_on_and_categories_are_told_apart_from_dataset_means():
    a, b = draw()
    parts = [rows("a", a), rows("b", b)]
    plain = compare(pd.concat(parts), "a", "b")
    full = pd.concat([p.assign(level="image", metric="auroc", category="mean", seen=False) for p in parts])
    noise = full.assign(value=0.0)
    more = pd.concat([full, noise.assign(category="nut"), noise.assign(level="pixel"), noise.assign(metric="ap"),
                      noise.assign(dataset="other", seen=True)])  # fmt: skip
    assert compare(more, "a", "b").p_value == pytest.approx(plain.p_value)


def test_shares_are_read_as_percent():
    a, b = draw(difference=2)
    percent = pd.concat([rows("a", a), rows("b", b)])
    share = percent.assign(value=percent["value"] / 100)
    assert compare(share, "a", "b").interval == pytest.approx(compare(percent, "a", "b").interval)


# ---- the nine cases


def test_one_run_of_each_gives_no_p_and_says_what_is_missing():
    found = compare(study(n_seeds=1, difference=5), "a", "b")
    assert (found.verdict, found.p_value, found.interval) == ("undecided", None, None)
    assert "needs 2 seeds of a or b (there is one run of each)" in found.why


@pytest.mark.parametrize("n_datasets", [5, 6, 8])
def test_three_points_everywhere_are_found_on_any_number_of_datasets_in_a_family_of_twelve(n_datasets):
    claims = adjust([
        compare(study(n_datasets=n_datasets, difference=3, total=0.1, heterogeneity=0.1, seed=seed), "a", "b")
        for seed in range(12)
    ])  # fmt: skip
    assert [claim.verdict for claim in claims] == ["better"] * 12


def test_methods_that_are_equal_everywhere_are_equivalent():
    a, _ = draw(n_datasets=12, n_seeds=10)
    found = compare(pd.concat([rows("a", a), rows("b", a)]), "a", "b")
    assert (found.verdict, found.difference, found.interval) == ("equivalent", 0.0, (0.0, 0.0))


def test_disjoint_seeds_do_not_make_a_claim_vanish():
    found = compare(study(unpaired=True, difference=4), "a", "b")
    assert found.verdict == "better"


def test_two_datasets_are_too_few_to_speak_of_others():
    found = compare(study(n_datasets=2, difference=5), "a", "b")
    assert (found.verdict, found.p_value) == ("undecided", None)
    assert "needs 3 datasets (there are 2)" in found.why
    assert compare(study(n_datasets=2, difference=5), "a", "b", scope="these_datasets").verdict == "better"


def test_methods_without_a_common_dataset_are_undecided():
    a, b = draw()
    apart = pd.concat([rows("a", a), rows("b", b, datasets=[f"other{number}" for number in range(8)])])
    found = compare(apart, "a", "b")
    assert found.verdict == "undecided"
    assert np.isnan(found.difference)
    assert "no dataset in common" in found.why
    assert "nan" not in f"{found} {found._repr_html_()}"


# ---- laws


@given(st.integers(0, 999), st.sampled_from([False, True]), st.sampled_from(["new_datasets", "these_datasets"]),
       st.floats(-2, 2))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_b_against_a_is_the_mirror_of_a_against_b(seed, unpaired, scope, difference):
    results = study(unpaired=unpaired, seed=seed, difference=difference)
    one, other = (compare(results, *pair, scope=scope) for pair in (("a", "b"), ("b", "a")))
    assert one.difference == pytest.approx(-other.difference)
    assert one.p_value == pytest.approx(other.p_value)
    mirror = {"better": "worse", "worse": "better"}
    assert mirror.get(one.verdict, one.verdict) == other.verdict


def results_of(design, n_datasets, n_seeds, share, heterogeneity, rng):
    """A study of a and b without a difference in the mean, as the design would leave it."""

    def table(columns, variance):
        common, rest = np.sqrt(share * variance), np.sqrt((1 - share) * variance)
        return rng.normal(0, common, columns) + rng.normal(0, rest, (n_datasets, columns))

    truth = 80 + rng.normal(0, 5, n_datasets)[:, None]
    of_a, of_b = (truth + rng.normal(0, heterogeneity / np.sqrt(2), (n_datasets, 1)) for _ in range(2))
    if design == "paired":
        return [rows("a", of_a + table(n_seeds, 0.5)), rows("b", of_b + table(n_seeds, 0.5))]
    if design == "unpaired":
        other = rng.integers(3, 11)
        return [rows("a", of_a + table(n_seeds, 0.5)), rows("b", of_b + table(other, 0.5), range(50, 50 + other))]
    if design == "deterministic":
        return [rows("a", of_a + table(n_seeds, 1)), rows("b", np.repeat(of_b, 2, axis=1))]
    if design == "untrained":
        parts = [rows("a", of_a + table(n_seeds, 1), auxiliary=name) for name in ("visa", "mvtec", "btad")]
        return [*parts, rows("b", of_b, auxiliary=NOTHING)]
    if design == "single":  # one run of a method that was trained
        return [rows("a", of_a + table(n_seeds, 0.5), auxiliary="visa"),
                rows("b", of_b + table(1, 0.5), auxiliary="visa")]  # fmt: skip
    assert design == "auxiliaries"
    return [
        rows(method, of + table(n_seeds, 1), auxiliary=name)
        for method, of in (("a", of_a), ("b", of_b))
        for name in ("visa", "mvtec", "btad")
    ]


DESIGNS = ("paired", "unpaired", "deterministic", "untrained", "single", "auxiliaries")


@given(st.sampled_from(DESIGNS), st.sampled_from(["new_datasets", "these_datasets"]), st.integers(2, 8),
       st.integers(3, 12), st.floats(-3, 3), st.floats(0.5, 2), st.integers(0, 999))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_interval_excludes_0_exactly_where_the_claim_is_better_or_worse(
    design, scope, n_seeds, n_datasets, difference, margin, seed
):
    results = pd.concat(results_of(design, n_datasets, n_seeds, 0.3, 0.3, np.random.default_rng(seed)))
    results["value"] += difference * (results["method"] == "a")
    found = compare(results, "a", "b", margin=margin, scope=scope)
    low, high = found.interval
    assert (not low <= 0 <= high) == (found.verdict in ("better", "worse"))
    assert low <= found.difference <= high


@given(st.integers(2, 10), st.integers(3, 13), st.integers(0, 999), st.booleans())
@settings(max_examples=25, deadline=None)
def test_equal_methods_are_equivalent_whatever_varies_with_seeds_and_datasets(n_seeds, n_datasets, seed, unpaired):
    # Under other seeds the same values differ by chance, so their spread has to be small beside the margin: with two
    # seeds the 90 % interval reaches 6.3 standard errors.
    a, _ = draw(n_datasets, n_seeds, seed=seed, total=1e-4 if unpaired else 1.0)
    b = rows("b", a, range(n_seeds, 2 * n_seeds) if unpaired else None)
    found = compare(pd.concat([rows("a", a), b]), "a", "b")
    assert (found.verdict, found.p_value) == ("equivalent", pytest.approx(1))
    assert found.difference == pytest.approx(0, abs=1e-9)


@given(st.integers(2, 6), st.integers(3, 8), st.integers(0, 4), st.integers(0, 5), st.integers(1, 60),
       st.integers(1, 5), st.integers(0, 999))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_clear_difference_is_found_in_a_family_of_any_size_and_more_data_keep_it(
    n_seeds, n_datasets, more_seeds, more_datasets, family, looks, seed
):
    # Three points with a spread of a thousandth. Of 2 seeds and 300 tests p has to be below 0.05 / 300: t with one
    # degree of freedom exceeds 1910 there, and 3 / 0.001 is beyond.
    a, b = draw(n_datasets + more_datasets, n_seeds + more_seeds, heterogeneity=1e-4, total=1e-6, difference=3,
                seed=seed)  # fmt: skip
    for size in (np.s_[:n_datasets, :n_seeds], np.s_[:]):
        found = compare(pd.concat([rows("a", a[size]), rows("b", b[size])]), "a", "b")
        assert {claim.verdict for claim in adjust([found] * family, looks)} == {"better"}


def test_more_seeds_of_b_never_take_a_verdict_away_by_arithmetic():
    a, b = draw(n_seeds=8, difference=4, total=0.2, heterogeneity=0.1)
    for count in (2, 3, 5, 8):
        assert compare(pd.concat([rows("a", a), rows("b", b[:, :count])]), "a", "b").verdict == "better", count


def test_a_family_adjusts_by_holm_and_keeps_the_verdict_alone():
    comparisons = [compare(study(difference=difference, seed=seed), "a", "b")
                   for seed, difference in enumerate((0.0, 0.3, 0.9, 4.0))]  # fmt: skip
    claims = adjust(comparisons)
    assert sorted(claim.p for claim in claims)[0] == pytest.approx(4 * min(c.p_value for c in comparisons))
    for claim in claims:
        assert claim.p >= claim.comparison.p_value
        assert (claim.verdict in ("better", "worse")) == (claim.p < ALPHA)


def test_results_that_are_looked_at_twice_need_half_the_level():
    found = compare(study(difference=1), "a", "b")
    (claim,) = adjust([found], looks=2)
    assert claim.p == pytest.approx(2 * found.p_value)


# ---- errors, and what a notebook shows


@pytest.mark.parametrize(
    ("results", "arguments", "said"),
    [
        (study().drop(columns="seed"), ("a", "b"), "lack the column seed"),
        (study(), ("a", "bb"), "did you mean b?"),
        (pd.concat([study(), study(seed=1)]), ("a", "b"), "several values of 'a', seed 0, on 'target0'"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(results, arguments, said):
    with pytest.raises(CopsError, match=said.replace("?", r"\?")):
        compare(results, *arguments)


@pytest.mark.parametrize("options", [{"scope": "new"}, {"margin": 0.0}, {"margin": float("nan")}])
def test_a_scope_or_margin_that_is_none_is_refused(options):
    with pytest.raises(CopsError, match="expected"):
        compare(study(), "a", "b", **options)


def test_a_notebook_shows_the_verdict_and_names_are_escaped():
    a, b = draw(difference=3)
    name = "<b>$\\frac$"
    shown = compare(pd.concat([rows(name, a), rows("b", b)]), name, "b")._repr_html_()
    assert "better" in shown
    assert "<b>" not in shown.replace("<b>$", "") or "&lt;b&gt;" in shown


# ---- calibration

Z = 4  # standard errors of a simulated rate that are left for chance


def decisions(groups, constant):
    """The rule for new datasets, written for many studies at once: the difference, and half of its 95 % interval.

    Tables are studies x datasets x seeds, `constant` is studies x datasets.
    """
    by_dataset = constant + sum(group.mean(axis=2) for group in groups)
    n = by_dataset.shape[1]
    sources = [(by_dataset.var(axis=1, ddof=1) / n, n - 1)]
    sources += [(of.mean(axis=1).var(axis=1, ddof=1) / of.shape[2], of.shape[2] - 1) for of in groups]
    both = sum(
        np.sum((of - of.mean(axis=2, keepdims=True) - of.mean(axis=1, keepdims=True) + of.mean((1, 2), keepdims=True))
               ** 2, axis=(1, 2)) / ((n - 1) * (of.shape[2] - 1)) / (n * of.shape[2])
        for of in groups
    )  # fmt: skip
    of_seeds = sum(variance for variance, _ in sources[1:])
    variance = np.maximum(sources[0][0] + of_seeds - both, np.maximum(sources[0][0], of_seeds))
    quantile = sum(v * stats.t.isf(0.025, df) for v, df in sources) / sum(v for v, _ in sources)
    return by_dataset.mean(axis=1), quantile * np.sqrt(variance)


def tables(rng, studies, n_datasets, n_seeds, share, variance=1.0):
    common = rng.normal(0, np.sqrt(share * variance), (studies, 1, n_seeds))
    return common + rng.normal(0, np.sqrt((1 - share) * variance), (studies, n_datasets, n_seeds))


@pytest.mark.parametrize("unpaired", [False, True])
def test_many_studies_at_once_are_decided_as_compare_decides_each(unpaired):
    rng = np.random.default_rng(0)
    of_a, of_b = tables(rng, 5, 6, 4, 0.3), tables(rng, 5, 6, 4 - unpaired, 0.3)
    groups = [of_a, -of_b] if unpaired else [of_a - of_b]
    for number, (difference, half) in enumerate(zip(*decisions(groups, np.zeros((5, 6))), strict=True)):
        of_other = rows("b", of_b[number], range(9, 12) if unpaired else None)
        found = compare(pd.concat([rows("a", of_a[number]), of_other]), "a", "b")
        assert found.difference == pytest.approx(difference)
        assert found.interval == pytest.approx((difference - half, difference + half))


# Where the rule rejects most, of 2,028 cells of 3 to 20 datasets x 2 to 10 seeds: few seeds, many datasets, and a share
# around a half; or few datasets and many seeds. With two seeds alone it comes near .07.
@pytest.mark.parametrize(
    ("n_datasets", "n_seeds", "share", "heterogeneity", "of_b"),
    [(13, 3, 0.0, 0.0, 0), (13, 3, 0.2, 0.0, 0), (13, 3, 0.5, 0.0, 0), (13, 3, 0.8, 0.0, 0), (12, 3, 0.5, 0.3, 0),
     (13, 5, 0.5, 0.0, 0), (13, 10, 0.5, 0.0, 0), (10, 6, 0.8, 0.3, 0), (6, 3, 0.8, 0.0, 0), (6, 10, 0.0, 1.0, 0),
     (8, 5, 0.5, 0.3, 0), (13, 10, 0.8, 0.3, 3), (12, 3, 0.8, 0.0, 3)],
)  # fmt: skip
def test_studies_without_a_difference_are_rejected_at_most_in_6_of_100(n_datasets, n_seeds, share, heterogeneity, of_b):
    # Of as many studies the rate is within 4 standard errors of the truth; an interval misses 0 exactly as often.
    rng, studies = np.random.default_rng(0), 20_000
    groups = [tables(rng, studies, n_datasets, n_seeds, share, 0.5 if of_b else 1.0)]
    groups += [-tables(rng, studies, n_datasets, of_b, share, 0.5)] if of_b else []
    difference, half = decisions(groups, rng.normal(0, heterogeneity, (studies, n_datasets)))
    assert np.mean(np.abs(difference) > half) <= 0.06 + Z * np.sqrt(0.06 * 0.94 / studies)


@pytest.mark.parametrize("heterogeneity", [0.0, 0.3])
def test_one_point_is_found_on_eight_datasets_with_five_seeds(heterogeneity):
    # The noise of our own full runs: a seed brings 24 % of its variance to all datasets at once.
    rng, studies = np.random.default_rng(0), 20_000
    constant = 1 + rng.normal(0, heterogeneity, (studies, 8))
    difference, half = decisions([tables(rng, studies, 8, 5, 0.24)], constant)
    assert np.mean(difference > half) - Z * np.sqrt(0.25 / studies) >= 0.75


STUDIES = 150


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["new_datasets", "these_datasets"])
@pytest.mark.parametrize("design", DESIGNS)
def test_compare_seldom_finds_what_is_not_there(design, scope):
    # Shapes, shares and heterogeneity differ from study to study; what moves these very datasets is no null for them.
    rng, found = np.random.default_rng(1), []
    for _ in range(STUDIES):
        n_datasets, n_seeds, share = rng.integers(6, 14), rng.integers(3, 11), rng.choice([0, 0.2, 0.5, 0.8])
        heterogeneity = rng.choice([0, 0.3, 1]) if scope == "new_datasets" else 0.0
        results = results_of(design, n_datasets, n_seeds, share, heterogeneity, rng)
        found.append(compare(pd.concat(results), "a", "b", scope=scope))
    rejected = np.mean([c.verdict in ("better", "worse") for c in found])
    assert rejected <= 0.06 + 3 * np.sqrt(0.06 * 0.94 / STUDIES)
    assert np.mean([c.interval[0] <= 0 <= c.interval[1] for c in found]) == pytest.approx(1 - rejected)
