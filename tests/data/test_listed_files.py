"""Trees with the real file names of each dataset, as publishers and curators lay them out."""

import csv
import gzip
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cops_lightning.data.catalog import CATALOG
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.data.tools.check import check
from data.conftest import write

Plant = Callable[[Path, str], Path]

# The list of files, the dataset, and the layout that is printed.
LISTS = [
    ("br35h", "br35h", "class folders no and yes"),
    ("brainmri", "brainmri", "class folders no and yes"),
    ("brainmri_solver_variant", "brainmri", "class folders no and yes"),
    ("btad", "btad", "category folders"),
    ("clinicdb", "clinicdb", "publisher, Original and Ground Truth"),
    ("clinicdb_polyp_dataset_variant", "clinicdb", "images and masks"),
    ("colondb", "colondb", "publisher, one flat folder"),
    ("colondb_polyp_dataset_variant", "colondb", "images and masks"),
    ("dtd_synthetic", "dtd_synthetic", "category folders"),
    ("endotect_maskext_plausible", "endo", "images and masks"),
    ("headct", "headct", "publisher, labels.csv"),
    ("headct_curated_variant", "headct", "curated, one category folder"),
    ("isic2016", "isic", "publisher, ISBI 2016 part 1"),
    ("kvasir_polyp_dataset_variant", "kvasir", "images and masks"),
    ("kvasir_seg", "kvasir", "images and masks"),
    ("mpdd_plausible", "mpdd", "category folders"),
    ("mpdd_test_only_real", "mpdd", "category folders"),
    ("mvtec", "mvtec", "category folders"),
    ("visa", "visa", "publisher, split by split_csv/1cls.csv"),
    ("visa_pytorch_variant", "visa", "category folders"),
]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """Trees by the name of their list, each planted once, and removed in the end since they hold 60,000 files."""
    base = tmp_path_factory.mktemp("planted")
    yield lambda listing, name: base / name if (base / name).exists() else plant(listing, name, base / name)
    shutil.rmtree(base)


def plant(listing: Path, name: str, root: Path) -> Path:
    """Make the tree of a list, with tiny images and with the tables that belong to it."""
    originals = {}
    for place in gzip.decompress((listing / f"{name}.txt.gz").read_bytes()).decode().splitlines():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if place.startswith("split_csv/"):
            path.write_bytes((listing / "visa_split_csv" / path.name).read_bytes())
        elif place == "labels.csv":
            path.write_text("id, hemorrhage\n" + "".join(f"{i},{int(i < 100)}\n" for i in range(200)))
        elif path.suffix in originals:
            path.hardlink_to(originals[path.suffix])  # far quicker than one more file
        else:
            write(path)
            originals[path.suffix] = path
    return root


def truth(listing: Path) -> dict[str, dict[tuple[str, str, str], int]]:
    """The counted files of every dataset, by category, split and label."""
    counts: dict[str, dict[tuple[str, str, str], int]] = defaultdict(dict)
    for row in csv.DictReader((listing.parent / "truth.csv").read_text().splitlines()):
        counts[row["dataset"]][row["category"], row["split"], row["label"]] = int(row["count"])
    return counts


@pytest.mark.parametrize(("name", "dataset", "layout"), LISTS, ids=[row[0] for row in LISTS])
def test_a_tree_is_recognised_and_holds_what_was_counted(
    listing: Path, planted: Plant, name: str, dataset: str, layout: str
):
    report = check(dataset, planted(listing, name))
    assert report.layout == layout
    assert report.problems == ()
    for (category, split, label), count in truth(listing)[dataset].items():
        if split == "pred" or (name == "mpdd_test_only_real" and split == "train"):
            continue
        assert report.found[category][split][label == "anomaly"] == count, (category, split, label)


def test_the_lists_here_are_all_the_lists(listing: Path):
    assert sorted(path.name for path in listing.glob("*.gz")) == sorted(f"{name}.txt.gz" for name, _, _ in LISTS)


def test_the_catalogue_expects_what_was_counted(listing: Path):
    for dataset, counts in truth(listing).items():
        if dataset not in CATALOG:
            continue
        spec = CATALOG[dataset]
        for (category, split, label), count in counts.items():
            if split == "train":
                assert spec.counts[category].train == count
            elif split == "test":
                assert getattr(spec.counts[category], "normal" if label == "normal" else "anomalous") == count


@pytest.mark.parametrize(
    ("name", "dataset"),  # one set per way of naming masks
    [("btad", "btad"), ("isic2016", "isic"), ("colondb", "colondb"), ("mpdd_test_only_real", "mpdd")],
)
def test_every_anomalous_image_has_the_mask_of_its_name(listing: Path, planted: Plant, name: str, dataset: str):
    for sample in load_index(dataset, planted(listing, name)).test:
        if sample.anomalous:
            assert sample.mask is not None
            stem = sample.mask.stem.removesuffix("_mask").removesuffix("_Segmentation")
            assert stem.removeprefix("p" if dataset == "colondb" else "") == sample.image.stem
        else:
            assert sample.mask is None
