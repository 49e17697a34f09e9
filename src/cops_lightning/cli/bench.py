"""`cops-bench`: how long the works take here, beside the released program's way, and whether both agree."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from cops_lightning.benchmark import WORK_NAMES
from cops_lightning.cli.console import command, exit_code
from cops_lightning.core.choices import Precision
from cops_lightning.core.places import require_no_run, require_own
from cops_lightning.core.reporting import console

EPILOG = """\
works:
  encode       image encoder alone
  prompts      text features of both prompts of all class samples; always fp32
  train-epoch  one step of an epoch: losses, gradients, Adam; once with the encoder, once from features at hand
               (train-epoch-cached)
  evaluate     images to scores and maps
  predict      the same by the detector in bf16 and by exported files; the baseline is the detector in fp32
  metrics      pixel metrics of --batch images from stored patch scores
  anomalyclip-train, anomalyclip-score, bayes-pfl-train, bayes-pfl-score
               a training step and the scores of a peer from features at hand; always fp32

The baseline is a plain fp32 implementation of the released program's way. Ways take turns, so a busy machine slows all
alike; seconds are medians. Weights are random: nothing is downloaded.

examples:
  cops-bench encode prompts --backbone vit_l14_336 --precision bf16 --json bench.json
  cops-bench train-epoch --backbone vit_b16
  cops-bench metrics --batch 2000 --no-baseline --repeats 1"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return exit_code(lambda: _bench(arguments), "interrupted; --json FILE holds the works that were done.")


def _parser() -> argparse.ArgumentParser:
    parser = command(
        "cops-bench", "Measure CoPS and its peers beside a plain implementation of the released program's way.", EPILOG
    )
    parser.add_argument("works", metavar="WORK", nargs="+", choices=WORK_NAMES, help=", ".join(WORK_NAMES))
    parser.add_argument("--backbone", default="vit_l14_336", help="an entry of conf/backbone (default: %(default)s)")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="of the image encoder")
    parser.add_argument("--batch", type=_positive, help="images (default: 8 to train and for metrics, else 1)")
    parser.add_argument("--image-size", type=_positive, help="side in pixels (default: the backbone's)")
    parser.add_argument("--repeats", type=_positive, default=5, help="turns after the warm-up (default: %(default)s)")
    parser.add_argument(
        "--budget", type=float, default=600.0, help="seconds after which a work starts no more turns (default: 600)"
    )
    parser.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True, help="measure it too")
    parser.add_argument("--compile", action="store_true", help="the image encoder through torch.compile")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _bench(arguments: argparse.Namespace) -> int:
    # Imported where used: they take seconds, and --help needs none of them.
    from cops_lightning.benchmark.run import bench

    if arguments.json is not None:
        require_no_run("--json", arguments.json)
        require_own("--json", arguments.json, "file of cops-bench", lambda start: b'"work": ' in start)
    console().print(bench(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
