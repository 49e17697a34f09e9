"""The page from collected runs: which sections, in which order, and what stands above them."""

from collections import Counter

import pandas as pd

from cops_lightning.core.names import printable
from cops_lightning.report.collect import Collection
from cops_lightning.report.page import MISSING, Page, Section, Table, plural
from cops_lightning.report.sections import claims, model, results, robustness, transfer
from cops_lightning.report.study import Study
from cops_lightning.report.tables import NOTHING

MOST_DAMAGED = 5  # files that sentences are spent on


def build_page(study: Study, title: str = "CoPS results") -> Page:
    """The answer first, then everything that it rests on."""
    sections = (
        claims.section(study),
        claims.by_dataset(study),
        claims.planning(study),
        results.section(study),
        results.beside_published(study),
        robustness.aggregates(study),
        robustness.ranks(study),
        robustness.images(study),
        transfer.auxiliaries(study),
        transfer.domain_shift(study),
        model.vae(study),
        model.variance(study),
        _runs(study.collection),
    )
    damaged = [sentence for section in sections for sentence in section.left_out]
    cautions = (*_cautions(study), *(f"Left out: {sentence}" for sentence in damaged[:MOST_DAMAGED]))
    if len(damaged) > MOST_DAMAGED:
        cautions += (f"Left out: {plural(len(damaged) - MOST_DAMAGED, 'more file')} of runs.",)
    return Page(title, claims.question(study), claims.answer(study), _summary(study), cautions, sections)


def _summary(study: Study) -> tuple[str, ...]:
    collection, frame = study.collection, study.frame
    counted = {
        "method": len(collection.methods),
        "seed": frame["seed"].nunique(),
        "auxiliary dataset": len(set(frame["auxiliary"]) - {NOTHING}),
        "target": frame["dataset"].nunique(),
    }
    return (
        f"{plural(len(collection.jobs), 'run')} ({_states(collection)}); "
        f"{', '.join(plural(count, word) for word, count in counted.items())}; "
        f"backbone {', '.join(sorted(set(frame['backbone'])))}.",
        "Values are in percent, differences in points. A dataset's value is the mean over its categories. Seeds and "
        "datasets are crossed: a checkpoint is scored on every dataset, so its luck moves all of them.",
    )


def _cautions(study: Study) -> tuple[str, ...]:
    collection, found = study.collection, list(study.collection.notes)
    used = [collection.jobs[job] for job in collection.used]
    if any(job.is_random for job in used):
        found.append("Some runs have a backbone with random weights: their numbers mean nothing.")
    if any(job.backbone.startswith("packaged:") for job in used):
        found.append("Some runs have a packaged demonstration backbone: no claim about CoPS with a real CLIP.")
    if collection.left_out:
        found.append(
            f"{plural(len(collection.left_out), 'result')} of a run on a dataset left out, see the last section."
        )
    unfinished = sum(not job.complete for job in collection.jobs)
    if unfinished:
        found.append(
            f"{plural(unfinished, 'run')} failed, did not finish or changed since, and give no results: see the last "
            "section."
        )
    if study.frame["seed"].nunique() < 2:
        found.append("There is a single seed: nothing can be said about spread over seeds.")
    return tuple(found)


def _runs(collection: Collection) -> Section:
    unfinished = pd.DataFrame(
        {
            "folder": printable(str(job.folder)),
            "status": job.status,
            "why": printable(str(job.record.get("error", ""))) or MISSING,
        }
        for job in collection.jobs
        if not job.complete
    )
    known = pd.DataFrame(
        {"method": method.name, "hash": method.hash, "labels": ", ".join(method.labels)}
        for method in collection.methods
    )
    tables = [Table("methods", "Methods: runs of equal settings, the seed left out", known)]
    if not unfinished.empty:
        tables.append(Table("unfinished_runs", "Without results", unfinished))
    return Section("runs", "Runs", (f"{_states(collection)}.",), items=collection.left_out, tables=tuple(tables))


def _states(collection: Collection) -> str:
    counts = Counter(job.status for job in collection.jobs)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
