"""What a calibration says, in lines to print."""

import math
from collections.abc import Iterator
from typing import get_args

from cops_lightning.calibration.calibration import Calibration
from cops_lightning.calibration.conformal import needed, proportion_interval
from cops_lightning.calibration.drift import FEWEST
from cops_lightning.calibration.labelled import Aim, Chosen

NOT_COVERED = (
    "Not covered: images of another process, camera or light than the calibrated ones; several images of one part, "
    "which are no further evidence; and how many anomalous images are found, which normal images cannot say."
)


def summary(calibration: Calibration) -> list[str]:
    """What was calibrated, the thresholds, the false alarms to expect, and what none of it covers."""
    c, expected = calibration, calibration.false_alarms()
    again = f" ({c.repeated} more repeat the pixels of another)" if c.repeated else ""
    lines = [
        f"{c.identity.detector} over {c.identity.backbone} at {c.identity.image_size} px, calibrated with {c.n} normal "
        f"images{again} for a level of {100 * c.level:g} %.",
    ]
    if c.shortage:
        lines.append(c.shortage)
    if expected is not None:
        mean, low, high = (100 * share for share in expected)
        lines += [
            f"Images above {_at(c.level_threshold)} are anomalous: {mean:.3g} % of normal ones in the mean over "
            f"calibrations; with this one between {low:.2g} % and {high:.2g} % (95 % interval).",
            f"Pixels above {_at(c.map_threshold)} belong to regions: as many normal images show one.",
        ]
    fewest = ", ".join(f"{needed(level)} images for {100 * level:g} %" for level in (0.05, 0.01, 0.001))
    lines.append(f"The fewest images for a level: {fewest}.")
    lines.extend(_of_labelled(calibration))
    lines.append(
        "Drift is watched while predicting, by the encoder's features."
        if c.features is not None
        else f"Drift is not watched: that takes {FEWEST} normal images."
        if calibration.n < FEWEST
        else "Drift is not watched: the detector reads no features, or they are the same for all images."
    )
    return [*lines, NOT_COVERED]


def _of_labelled(calibration: Calibration) -> Iterator[str]:
    labelled, cut = calibration.labelled, calibration.level_threshold
    if labelled is None:
        return
    count = len(calibration.anomalous)
    if cut is not None:
        found = sum(score > cut for score in calibration.anomalous)
        low, high = (100 * bound for bound in proportion_interval(found, count))
        yield f"Above {_at(cut)} lie {found} of {count} anomalous images: a recall of {low:.3g} to {high:.3g} %."
    for aim in get_args(Aim):
        chosen = labelled.chosen(aim)
        used = " (in use)" if aim == calibration.use else ""
        yield f"For {_aim(aim, calibration)}{used}: " + (
            f"{labelled.needed} anomalous images are needed." if chosen is None else _said(chosen)
        )


def _aim(aim: Aim, calibration: Calibration) -> str:
    weighing = calibration.weighing
    if aim == "recall":
        return f"a recall of {100 * weighing.recall:g} %"
    return "the best F1" if aim == "f1" else f"the least cost at {weighing.false_alarm:g}:{weighing.miss:g}"


def _said(chosen: Chosen) -> str:
    """A threshold with its interval, and what it achieves."""
    scale, unit = {"recall": (100, " %"), "f1": (1, ""), "cost": (1, " an image")}[chosen.aim]
    low, high = (scale * bound for bound in chosen.value_interval)
    kind = "Clopper-Pearson" if chosen.aim == "recall" else "bootstrap"
    what = {"recall": "recall", "f1": "F1", "cost": "cost"}[chosen.aim]
    return (
        f"{_at(chosen.threshold)} ({_at(chosen.threshold_interval[0])} to {_at(chosen.threshold_interval[1])}), "
        f"{what} {scale * chosen.value:.3g}{unit} ({low:.3g} to {high:.3g}, {kind}), false alarms "
        f"{100 * chosen.false_alarms:.2g} % of these normal images."
    )


def _at(value: float | None) -> str:
    return "none" if value is None else "no bound" if math.isinf(value) else f"{value:.4g}"
