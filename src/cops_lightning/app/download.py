"""What a tab takes home: a table of its results, and heat maps."""

import csv
import io
import zipfile
from pathlib import Path

from cops_lightning.app.visitors import Visitor
from cops_lightning.core.names import file_names, in_spreadsheet
from cops_lightning.data.readers.tree import IMAGE_SUFFIXES

COLUMNS = ("image", "detector", "score", "p_value", "threshold", "label", "reason")


def results_csv(visitor: Visitor) -> str:
    """A line for each image and detector, and one for each file that is no image, with the reason.

    Empty cells are what is not known. A name that a spreadsheet would take for a formula has an apostrophe before it.
    """
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(COLUMNS)
    for shown in list(visitor.images.values()):
        for number, judge in enumerate(visitor.judges):
            found = visitor.prediction(shown, number)
            table.writerow([
                in_spreadsheet(shown.name), judge.name, found.score, found.p_value, found.threshold, found.label, None
            ])  # fmt: skip
    for name, reason in visitor.failures:
        table.writerow([in_spreadsheet(name), None, None, None, None, None, in_spreadsheet(reason)])
    return written.getvalue()


def results_zip(visitor: Visitor, file: Path) -> None:
    """Write an archive of results.csv and heatmaps/, JPEG files of the images' own size, to `file`."""
    shown_names = [f"{number:03}-{_unsuffixed(shown.name)}" for number, shown in enumerate(visitor.images.values(), 1)]
    names = file_names(shown_names)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("results.csv", results_csv(visitor))
        for shown, name in zip(visitor.images.values(), shown_names, strict=True):
            for number in range(len(visitor.judges)):
                buffer = io.BytesIO()
                visitor.prediction(shown, number).heat_map().save(buffer, "JPEG", quality=92)
                folder = "heatmaps" if len(visitor.judges) == 1 else f"heatmaps/detector{number + 1}"
                archive.writestr(f"{folder}/{names[name]}.jpg", buffer.getvalue())


def _unsuffixed(name: str) -> str:
    """Without the suffix of an image file; that of "scan.tif, page 2" stays."""
    stem, _, suffix = name.rpartition(".")
    return stem if stem and suffix.lower() in IMAGE_SUFFIXES else name
