"""What `callbacks.Diagnostics` leaves of a run, read back: a file is whole and of the right types, or left out."""

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cops_lightning.core.errors import CopsError
from cops_lightning.core.names import printable
from cops_lightning.core.record import Model, read_model
from cops_lightning.report.tables import read_columns

HEALTH, SHIFT, DRAWS = "vae_health.json", "domain_shift.json", "latent_draws.csv"

Name = Annotated[str, AfterValidator(printable)]
# Null where a number was not finite.
Number = Annotated[float, Field(allow_inf_nan=False)] | None
Point = tuple[float, float]


class _Content(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class Projection(_Content):
    """Posterior means in the plane of their first two principal components, and the share of variance of each."""

    explained: tuple[float, float]
    points: dict[Name, list[Point]]


class Health(_Content):
    """See `stats.latents.VaeHealth`."""

    n: int
    recon_weight: float
    reconstruction: dict[Name, Number]
    kl: Annotated[list[float], Field(min_length=1)]
    active_units: int
    gap: list[float]
    token_spread: float
    text_spread: dict[Name, Number] = {}
    score_spread: dict[Name, Number]
    projection: Projection


class Distance(_Content):
    """See `stats.shift.Shift`; `mmd_p` is null where there are too few images for a test."""

    n_a: int
    n_b: int
    d: int
    frechet: Number
    floor: Number
    mmd: Number
    mmd_p: Number
    centroid_cosine: Number


class DomainShift(_Content):
    """Of each target the distances from the auxiliary dataset, by features of images and of patches."""

    auxiliary: Name
    targets: dict[Name, dict[str, Distance]]


class Draw(NamedTuple):
    """Image AUROC of a target under one latent draw."""

    auxiliary: str
    target: str
    value: float | None


class Reader:
    """Reads these files; `left_out` says of each that is not what it should be what is wrong with it."""

    def __init__(self) -> None:
        self.left_out: list[str] = []

    def health(self, folder: Path) -> Health | None:
        """vae_health.json of a run; None where there is none that can be used."""
        return self._read(folder / HEALTH, Health)

    def shift(self, folder: Path) -> DomainShift | None:
        """domain_shift.json of a run; None where there is none that can be used."""
        return self._read(folder / SHIFT, DomainShift)

    def draws(self, folder: Path) -> list[Draw]:
        """latent_draws.csv of a run; empty where there is none that can be used."""
        path = folder / DRAWS
        if not path.is_file():
            return []
        try:
            columns = read_columns(path, Draw._fields)
        except CopsError as error:
            self.left_out.append(str(error))
            return []
        return [Draw(printable(a), printable(t), value) for a, t, value in zip(*columns.values(), strict=True)]

    def _read(self, path: Path, kind: type[Model]) -> Model | None:
        if not path.is_file():
            return None
        try:
            return read_model(path, kind, "Remove it, or do the run again.")[1]
        except CopsError as error:
            self.left_out.append(str(error))
            return None
