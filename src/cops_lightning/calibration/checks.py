"""What makes a calibration unusable, whoever made it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from cops_lightning.calibration.drift import FeatureReference

if TYPE_CHECKING:
    from cops_lightning.calibration.calibration import Calibration

LEAST = 1e-9  # a rate that takes more images than anybody has
Use = Literal["level", "recall", "f1", "cost"]


def fault(given: "Calibration") -> str:
    """What is wrong with a calibration, in a sentence; "" if nothing."""
    weighing, reference = given.weighing, given.features
    costs = weighing.false_alarm, weighing.miss
    share = 0.5 if weighing.anomalous_share is None else weighing.anomalous_share
    faults = {
        f"The level is {given.level}; expected a rate between 0 and 1, such as 0.05.": not LEAST <= given.level < 1,
        "There are no normal images.": not given.scores,
        "There are not as many highest map values as scores.": len(given.scores) != len(given.peaks),
        "Scores, or highest values of maps, are not finite.": not all(
            map(math.isfinite, (*given.scores, *given.peaks, *given.anomalous))
        ),
        "Scores do not ascend.": any(
            list(of) != sorted(of) for of in (given.scores, given.peaks, given.anomalous) if _finite(of)
        ),
        f"The recall asked for is {weighing.recall}; expected one between 0 and 1, such as 0.95.": not LEAST
        <= weighing.recall
        <= 1 - LEAST,
        f"The costs are {costs[0]} and {costs[1]}; expected numbers above 0.": not (_finite(costs) and min(costs) > 0),
        f"The share of anomalous images is {share}; expected one between 0 and 1.": not 0 < share < 1,
        f"The threshold is for {given.use!r}; expected {' or '.join(get_args(Use))}.": given.use not in get_args(Use),
        f"A threshold for {given.use} needs anomalous images.": given.use != "level" and not given.anomalous,
        "Less than no image was repeated.": given.repeated < 0,
        "The model of features does not fit together.": reference is not None and not _fits(reference),
    }
    return next((sentence for sentence, wrong in faults.items() if wrong), "")


def _fits(reference: FeatureReference) -> bool:
    rows = reference.components
    numbers = (*reference.mean, *(value for row in rows for value in row), *reference.variances, *reference.distances)
    return (
        all(len(row) == len(reference.mean) for row in rows)
        and len(rows) == len(reference.variances) > 0
        and len(reference.distances) > 0
        and _finite((*numbers, reference.noise))
        and min(*reference.variances, reference.noise) > 0
        and list(reference.distances) == sorted(reference.distances)
    )


def _finite(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values))
