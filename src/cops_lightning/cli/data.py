"""`cops-data`: list the known datasets, check one on disk, unpack, render or index one."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from cops_lightning.cli.console import command, exit_code
from cops_lightning.core.places import require_no_run, require_own
from cops_lightning.core.reporting import console, say
from cops_lightning.data.catalog import BENCHMARK, CATALOG, find_spec
from cops_lightning.data.readers.spec import INDEX_NAME

# What reads and writes images is imported where it is used: it takes seconds, and help and lists need none of it.
if TYPE_CHECKING:
    from cops_lightning.data.tools.check import Decoded, Report

EXAMPLES = """\
examples:
  cops-data list                                  what is known, where it comes from, what is expected
  cops-data check mvtec /data/mvtec               is that folder MVTec-AD, and complete?
  cops-data check kvasir /data/Kvasir-SEG --deep  also decode every image and mask
  cops-data check my_set.yaml                     a set of one's own, described by a few lines of YAML
  cops-data prepare btad btad.zip /data/btad      unpack the publisher's archive, then check it
  cops-data make procedural /data/procedural      render the offline datasets: auxiliary, easy, medium, hard
  cops-data make elpv /data/elpv                  solar cells, from the package elpv-dataset
  cops-data index visa /data/visa                 write /data/visa/cops_index.jsonl, so that runs start at once

a spec of one's own (images without {defect} are anomalous unless their masks are blank; all but images is optional):
  name: tiles
  root: /data/tiles                    # default: the folder of the YAML file
  images: MT_{defect}/Imgs/{stem}.jpg  # or, for a table:  table: labels.csv
  masks: MT_{defect}/Imgs/{stem}.png   #                   columns: {image: "scans/{id:03d}.png", label: sick}
  normal: Free                         # the {defect}, or the label, that means normal
  splits: {test: [test, val]}          # the values of {split}, or of the table's column, that mean train and test
  blank: normal                        # what an image with a blank mask is: normal, anomalous or an error
  mask_threshold: 127                  # values above it are anomalous; default: as the masks show
fields of a place: {category} {split} {defect} {stem}, {defect:a|b} for these words only, {*} for what does not matter;
{folder}/{stem} ties an image to a mask beside it, as {folder}/{stem}_mask; masks ending in {stem}/{*} are several files

Without ROOT, a dataset is looked for in the folder that the environment variable COPS_DATA_ROOT names.
Exit code: 0 where all is well, 1 where something is off."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return exit_code(lambda: int(arguments.run(arguments)))


def _parser() -> argparse.ArgumentParser:
    purpose = "Datasets for CoPS: list the known ones, check, unpack, render and index them."
    parser = command("cops-data", purpose, EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    name_help = "a name that `cops-data list` shows, or a path to a folder, meta.json, .csv, .jsonl or .yaml"

    listing = commands.add_parser("list", help="show the known datasets")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)

    checking = commands.add_parser("check", help="compare a dataset on disk with what was published")
    checking.add_argument("name", metavar="NAME", help=name_help)
    checking.add_argument("root", metavar="ROOT", nargs="?", help="the folder of the dataset, or a file that lists it")
    checking.add_argument("--json", action="store_true", help="print JSON")
    checking.add_argument("--deep", action="store_true", help="decode every image and mask (minutes)")
    checking.set_defaults(run=_check)

    preparing = commands.add_parser("prepare", help="unpack a publisher's archive safely and check it")
    preparing.add_argument("name", metavar="NAME", help="a name that `cops-data list` shows")
    preparing.add_argument("archive", metavar="ARCHIVE", type=Path, help="a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2")
    preparing.add_argument("destination", metavar="DEST", type=Path, help="a new or empty folder")
    preparing.set_defaults(run=_prepare)

    making = commands.add_parser(
        "make",
        help="render the procedural datasets, or copy one out of a Python package",
        description="procedural: rendered images in four folders of MVTec AD's layout (auxiliary, easy, medium, hard); "
        "existing ones are kept. elpv: the solar cells of the package elpv-dataset, those that experts were sure of.",
    )
    making.add_argument("name", metavar="NAME", choices=("procedural", "elpv"), help="procedural or elpv")
    making.add_argument("destination", metavar="DEST", type=Path, help="the folder to write")
    rendered = making.add_argument_group("images per procedural category")
    rendered.add_argument("--train", type=_count, default=20, metavar="N", help="in train/good (default: 20)")
    rendered.add_argument("--normal", type=_count, default=50, metavar="N", help="in test/good (default: 50)")
    rendered.add_argument("--anomalous", type=_count, default=100, metavar="N", help="with a defect (default: 100)")
    rendered.add_argument("--seed", type=_count, default=0, metavar="N", help="another seed, other images (default: 0)")
    making.set_defaults(run=_make)

    indexing = commands.add_parser("index", help="write an index file, so that later runs need not walk the folders")
    indexing.add_argument("name", metavar="NAME", help=name_help)
    indexing.add_argument("root", metavar="ROOT", nargs="?", help="the folder of the dataset, or a file that lists it")
    indexing.add_argument("--out", type=Path, help=f"where to write it (default: ROOT/{INDEX_NAME}, found by itself)")
    indexing.set_defaults(run=_index)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    rows = [CATALOG[name] for name in BENCHMARK]
    if arguments.json:
        content = [
            {
                "name": spec.name,
                "title": spec.title,
                "domain": spec.domain,
                "categories": len(spec.categories),
                "train": sum(counts.train for counts in spec.counts.values()),
                "normal": sum(counts.normal for counts in spec.counts.values()),
                "anomalous": sum(counts.anomalous for counts in spec.counts.values()),
                "masks": spec.has_masks,
                "licence": spec.licence,
                "url": spec.url,
            }
            for spec in rows
        ]
        print(json.dumps(content, indent=2))
        return 0
    table = Table("name", "domain", "categories", "train", "normal", "anomalous", "masks")
    for spec in rows:
        counts = spec.counts.values()
        sums = (sum(c.train for c in counts), sum(c.normal for c in counts), sum(c.anomalous for c in counts))
        masks = "yes" if spec.has_masks else "-"
        table.add_row(spec.name, spec.domain, str(len(counts)), *(str(n or "-") for n in sums), masks)
    console().print(table)
    print("Normal and anomalous are test images. No normal images: no image metrics. No masks: no pixel metrics.\n")
    for spec in rows:
        print(f"{spec.name:<14} {spec.title}; licence: {spec.licence}; {spec.url}")
    print("\nAlso known, though not among the thirteen: " + ", ".join(n for n in CATALOG if n not in BENCHMARK) + ".")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    report = _checked(arguments.name, arguments.root, arguments.deep, quiet=arguments.json)
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
        for problem in report.problems:
            print(f"error: {problem}", file=sys.stderr)
    else:
        _show(report, arguments.deep)
    return 1 if report.problems else 0


def _checked(name: str, root: str | Path | None, deep: bool, quiet: bool) -> "Report":
    from cops_lightning.core.progress import counted_progress
    from cops_lightning.data.tools.check import check

    with counted_progress(deep and not quiet) as progress:

        def shown(results: "Iterable[Decoded]", total: int) -> "Iterable[Decoded]":
            return progress.track(results, total=total, description="decoding")

        return check(name, root, deep=deep, progress=shown)


def _show(report: "Report", deep: bool = False) -> None:
    """The layout, the counts found beside those expected, and what is off."""
    shown = console()
    if report.layout is not None:
        shown.print(f"{report.dataset} in {report.root}", soft_wrap=True)
        shown.print(f"layout: {report.layout}", soft_wrap=True)
        shown.print(f"fingerprint: {report.fingerprint}")
        table = Table("category", "train normal", "test normal", "test anomalous")
        for category, splits in report.found.items():
            expected = report.expected.get(category)
            found = (splits["train"][0], splits["test"][0], splits["test"][1])
            wanted = (expected.train, expected.normal, expected.anomalous) if expected else found
            cells = [str(f) if f == w else f"{f} of {w}" for f, w in zip(found, wanted, strict=True)]
            table.add_row(category, *cells)
        shown.print(table)
    for note in report.notes:
        shown.print(f"note: {note}", soft_wrap=True)
    sys.stdout.flush()
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    if not report.problems:
        said = "is as published" if report.expected else "can be read; nothing is published to compare it with"
        more = "" if deep else " Its pixels were not looked at, which --deep does."
        shown.print(f"{report.dataset} {said}.{more}", soft_wrap=True)


def _prepare(arguments: argparse.Namespace) -> int:
    from cops_lightning.data.tools.archive import unpack

    spec = find_spec(arguments.name)
    _require_apart(arguments.destination)
    count = unpack(arguments.archive, arguments.destination)
    print(f"{count} files unpacked into {arguments.destination}")
    report = _checked(spec.name, arguments.destination, deep=False, quiet=True)
    _show(report)
    return 1 if report.problems else 0


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _require_apart(destination: Path) -> None:
    """Raise CopsError where DEST lies in a run, or in a dataset, whose images it would add to."""
    from cops_lightning.data.tools.place import require_no_dataset

    require_no_run("DEST", destination)
    require_no_dataset("DEST", destination)


def _make(arguments: argparse.Namespace) -> int:
    _require_apart(arguments.destination)
    if arguments.name == "elpv":
        from cops_lightning.data.tools.elpv import write_elpv

        for (material, state), count in sorted(write_elpv(arguments.destination).items()):
            print(f"{count} images in {arguments.destination / material / 'test' / state}")
        return 0
    from cops_lightning.demo.writer import write_all

    counts = arguments.train, arguments.normal, arguments.anomalous, arguments.seed
    there = {path.name for path in arguments.destination.glob("*")}
    for name, path in write_all(arguments.destination, *counts, progress=sys.stderr.isatty()).items():
        print(f"{name}: {'was there already' if name in there else 'written'}, {path}")
    print(f"Use it as auxiliary=own auxiliary.source={arguments.destination / 'auxiliary'}")
    return 0


def _index(arguments: argparse.Namespace) -> int:
    from cops_lightning.data.readers.index_file import looks_like_index, write_index
    from cops_lightning.data.readers.masks import require_marked
    from cops_lightning.data.readers.resolve import load_index

    index = require_marked(load_index(arguments.name, arguments.root, walk=True))
    out: Path = arguments.out or index.root / INDEX_NAME
    require_no_run("--out", out)
    if arguments.out:
        require_own("--out", out, "index", looks_like_index)
    write_index(index, out)
    say(f"{len(index.train) + len(index.test)} images of {index.name} ({index.layout}) written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
