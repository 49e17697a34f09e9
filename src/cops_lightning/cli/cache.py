"""`cops-cache`: features of the frozen image encoder on disk: build them ahead, list, verify and prune them."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from cops_lightning.cli.console import command, exit_code
from cops_lightning.core.errors import CacheError
from cops_lightning.core.files import cache_folder
from cops_lightning.core.progress import counted_progress
from cops_lightning.core.reporting import console, say

EXAMPLES = """\
examples:
  cops-cache build mvtec visa                     encode both now, for ViT-L/14@336 at 518 px
  cops-cache build btad --backbone vit_b16        for another backbone of conf/backbone
  cops-cache build visa --model cops anomalyclip  for two detectors, by one pass over the images
  cops-cache build /data/parts --dtype bf16       a set of one's own, in half the space
  cops-cache build all --over ray --address auto  on the machines of a cluster
  cops-cache list                                 what is kept, how large it is, when it was last used
  cops-cache verify                               compare all checksums; --remove deletes what is damaged
  cops-cache prune --older-than 30 --dry-run      what would be given back that was not used for 30 days?
  cops-cache prune --to-gb 20                     give back what was not used for longest, until 20 GB are left
  cops-cache prune --all                          give back everything

cops-train and cops-eval fill and use the cache by themselves; cops-cache build only does it ahead. A build that was
interrupted goes on with what is missing. An image of ViT-L/14 at 518 px takes 4.2 MB in fp32.

Features lie in the folder that --cache or the variable COPS_CACHE names (default: ~/.cache/cops_lightning).
Exit code: 0 where all is well, 1 where something is off."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    kept = "interrupted; what was encoded is kept, and the same command goes on from there."
    return exit_code(lambda: int(arguments.run(arguments)), kept)


def _parser() -> argparse.ArgumentParser:
    purpose = "Features of the frozen image encoder on disk: build them ahead, list, verify and prune them."
    parser = command("cops-cache", purpose, EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    default = str(cache_folder())
    common.add_argument("--cache", metavar="DIR", default=default, help=f"folder of the cache (here: {default})")

    building = commands.add_parser("build", parents=[common], help="encode datasets that are not in the cache yet")
    building.add_argument(
        "names",
        metavar="NAME",
        nargs="+",
        help="what targets=[...] of cops-train takes: a name that `cops-data list` shows, all, industrial, medical, "
        "procedural, or a path to a folder, meta.json, .csv, .jsonl or .yaml",
    )
    building.add_argument("--data-root", metavar="DIR", help="holds the datasets (default: COPS_DATA_ROOT)")
    building.add_argument("--backbone", default="vit_l14_336", help="a file of conf/backbone (default: vit_l14_336)")
    building.add_argument(
        "--model",
        metavar="NAME",
        nargs="+",
        default=["cops"],
        help="files of conf/model whose features are wanted; an image is encoded once for all of them (default: cops)",
    )
    building.add_argument("--weights", metavar="FILE", help="CLIP's weights (default: as in cops-train)")
    building.add_argument("--image-size", metavar="PX", type=int, help="side of the images (default: the backbone's)")
    building.add_argument("--precision", help="in which the encoder computes: fp32, bf16, fp16 (default: fp32)")
    building.add_argument(
        "--dtype", default="fp32", help="in which features are kept: fp32, bf16, fp16 (default: fp32)"
    )
    building.add_argument("--budget-gb", metavar="GB", type=float, default=50, help="space of the cache (default: 50)")
    building.add_argument("--batch-size", metavar="N", type=int, default=8, help="images per batch (default: 8)")
    building.add_argument("--workers", metavar="N", type=int, help="processes that decode here (default: 2)")
    building.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    building.add_argument("--over", choices=("ray",), help="encode on the machines of a Ray cluster (default: here)")
    building.add_argument("--address", help="of the cluster (default: RAY_ADDRESS, or Ray is started here meanwhile)")
    building.add_argument(
        "--actors",
        metavar="N",
        type=_actors,
        default="auto",
        help="processes of the cluster (default: as cops-predict)",
    )
    building.add_argument(
        "--mask-threshold", choices=("dataset", "released"), default="dataset", help="rule for masks (default: dataset)"
    )
    building.set_defaults(run=_build)

    listing = commands.add_parser("list", parents=[common], help="show what is kept")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)

    verifying = commands.add_parser("verify", parents=[common], help="read everything and compare checksums")
    verifying.add_argument("--remove", action="store_true", help="delete what is damaged; the next run encodes it anew")
    verifying.set_defaults(run=_verify)

    pruning = commands.add_parser("prune", parents=[common], help="give space back, least recently used first")
    what = pruning.add_mutually_exclusive_group(required=True)
    what.add_argument("--older-than", metavar="DAYS", type=float, help="what was not used for so many days")
    what.add_argument("--to-gb", metavar="GB", type=float, help="until so many GB (10^9 bytes) are left")
    what.add_argument("--all", action="store_true", help="everything")
    pruning.add_argument("--dry-run", action="store_true", help="say what would be given back, and keep it")
    pruning.set_defaults(run=_prune)
    return parser


def _actors(text: str) -> int | str:
    if text != "auto" and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1, and not auto")
    return text if text == "auto" else int(text)


def _root(arguments: argparse.Namespace) -> Path:
    from cops_lightning.features import FOLDER

    return Path(arguments.cache).expanduser() / FOLDER


def _build(arguments: argparse.Namespace) -> int:
    # Imported where used: they take seconds, and the other commands need none of them.
    import torch

    from cops_lightning.callbacks.feature_cache import CacheOptions, Encoding, FeatureCache, FeatureCaching
    from cops_lightning.config.check import check_node
    from cops_lightning.core.cluster import cluster as ray_cluster
    from cops_lightning.core.devices import find_device, require_device_of_cluster
    from cops_lightning.features import GB
    from cops_lightning.models.build import build_backbone, build_detector, find_node
    from cops_lightning.models.detector import FeatureDetector
    from cops_lightning.models.module import EncoderCount
    from cops_lightning.runs.apart import require_cache_apart
    from cops_lightning.runs.build import find_targets

    if not arguments.over and (arguments.address or arguments.actors != "auto"):
        raise CacheError("--address and --actors are of a cluster. Add --over ray, or leave them out.")
    if arguments.over:
        require_device_of_cluster(arguments.device)
        if arguments.workers is not None:
            raise CacheError("--workers decode here; a process of the cluster decodes by itself. Leave out --workers.")
    asked = {"weights": arguments.weights, "image_size": arguments.image_size, "precision": arguments.precision}
    given = [f"backbone.{key}={value}" for key, value in asked.items() if value is not None]
    node = find_node("backbone", arguments.backbone, *given)
    target = f"{FeatureCaching.__module__}.{FeatureCaching.__qualname__}"
    options = {"dtype": arguments.dtype, "budget_gb": arguments.budget_gb}
    check_node("callbacks.feature_cache", {"_target_": target, **options})
    paths = {"data": arguments.data_root, "cache": arguments.cache, "datasets": {}}
    targets = find_targets(arguments.names, paths)
    places = [place for member in targets for place in member.places()]
    require_cache_apart(Path(arguments.cache).expanduser(), places)
    backbone = build_backbone(node)
    detectors = {name: build_detector(find_node("model", name), backbone) for name in arguments.model}
    reading = {name: of for name, of in detectors.items() if isinstance(of, FeatureDetector) and of.cacheable}
    requests = [detector.request for detector in reading.values()]
    if without := [name for name in detectors if name not in reading]:
        raise CacheError(f"{' and '.join(without)} reads no features that could be kept; leave it out of --model.")
    workers = 2 if arguments.workers is None else arguments.workers
    with ExitStack() as leases:
        cluster = leases.enter_context(ray_cluster(arguments.address)) if arguments.over else None
        name = arguments.device or ("cuda" if cluster and cluster.gpus else "cpu" if cluster else None)
        device = torch.device(name.partition(":")[0]) if cluster and name else find_device(name)
        cache = FeatureCache(
            CacheOptions(Path(arguments.cache).expanduser(), arguments.dtype, round(arguments.budget_gb * GB)),
            backbone,
            backbone.image_size,
            Encoding(device, arguments.batch_size, workers, True, cluster, arguments.actors),
            requests,
        )
        stores = cache.stores.values()
        for store in stores:  # what was built for one dataset is not given back for the next
            leases.enter_context(store.in_use())
        for index in (index for target in targets for index in target.targets):
            count = EncoderCount()
            cache.dataset(index, arguments.mask_threshold, count)
            size = (count.encoded + count.from_cache) * sum(store.key.entry_bytes for store in stores) / GB
            say(f"{index.name}: {count.encoded} images encoded, {count.from_cache} were there, {size:.3f} GB in all")
    for store in stores:
        print(f"Features: {store.folder}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from cops_lightning.features import GB, survey

    root = _root(arguments)
    found = survey(root)
    if arguments.json:
        rows: list[dict[str, Any]] = [
            {"folder": str(s.folder), **s.description, "images": s.images, "bytes": s.size, "last_used": _day(s.used)}
            for s in found
        ]
        print(json.dumps(rows, indent=2))
        return 0
    if not found:
        print(f"No features are kept in {root}.")
        return 0
    table = Table("store", "backbone", "px", "encoder", "kept in", "images", "GB", "last used")
    for s in found:
        d = s.description
        cells = (
            d["backbone"][:8],
            str(d["image_size"]),
            d["precision"],
            d["dtype"],
            f"{s.images}",
            f"{s.size / GB:.3f}",
        )
        table.add_row(s.folder.name[-8:], *cells, (_day(s.used) or "-").partition(" ")[0])
    console().print(table)
    print(f"{sum(s.images for s in found)} images, {sum(s.size for s in found) / GB:.3f} GB in {root}")
    return 0


def _day(used: float | None) -> str | None:
    return None if used is None else datetime.fromtimestamp(used).isoformat(sep=" ", timespec="minutes")


def _verify(arguments: argparse.Namespace) -> int:
    from cops_lightning.features import entries, stores, verify

    files = [entry.path for folder in stores(_root(arguments)) for entry in entries(folder)]
    with counted_progress() as bar:
        step = bar.add_task("verifying", total=len(files))
        damaged = verify(files, lambda: bar.advance(step))
    for damage in damaged:
        print(f"error: {damage.reason}", file=sys.stderr)
        if arguments.remove:
            damage.path.unlink(missing_ok=True)
    intact = f"{len(files) - len(damaged)} of {len(files)} files are intact"
    if damaged:
        way_out = "the damaged ones were removed" if arguments.remove else "--remove deletes the damaged ones"
        print(f"{intact}; {way_out}, and the next run encodes those images anew.")
        return 1
    print(f"{intact}.")
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    from cops_lightning.features import GB, prune

    if (arguments.older_than or 0) < 0 or (arguments.to_gb or 0) < 0:
        raise CacheError("prune was given a negative number; expected days of at least 0, or GB of at least 0.")
    pruned = prune(
        _root(arguments),
        older_than_days=arguments.older_than,
        to_bytes=None if arguments.to_gb is None else round(arguments.to_gb * GB),
        everything=arguments.all,
        dry_run=arguments.dry_run,
    )
    done = "would be given back" if arguments.dry_run else "given back"
    print(f"{pruned.files} files, {pruned.size / GB:.3f} GB {done}.")
    for folder in pruned.spared:
        print(f"note: {folder} is in use by a running job and was spared.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
