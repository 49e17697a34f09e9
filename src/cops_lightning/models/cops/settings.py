"""What can be chosen about CoPS: presets, components, readings and sizes."""

from dataclasses import dataclass
from typing import Annotated, Literal

import yaml
from annotated_types import Ge

from cops_lightning.core.choices import require_choices
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.files import conf_folder
from cops_lightning.models.anomaly_map import DistanceRange, Upsampling
from cops_lightning.models.cops.losses import ReconReading
from cops_lightning.models.cops.prompt_learner import DeepReading, StateReading


@dataclass(frozen=True)
class Preset:
    """How CoPS is trained and scored: what the authors chose per auxiliary dataset (the one trained on).

    Raises ConfigError for values out of range.

    Args:
        epochs: of training.
        pool: side of the patch neighbourhood, odd.
        alpha: weight of the distance to normal prototypes, from 0 to 1.
        beta: weight of the global score, from 0 to 1.
        recon_weight: weight of the reconstruction loss, 0 or more.
    """

    epochs: int
    pool: int
    alpha: float
    beta: float
    recon_weight: float

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"epochs is {self.epochs}; expected 0 or more.")
        if self.pool < 1 or self.pool % 2 == 0:
            raise ConfigError(f"pool is {self.pool}; expected an odd number of patches, such as 3 or 5.")
        for name in ("alpha", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a weight from 0 to 1.")
        if self.recon_weight < 0:
            raise ConfigError(f"recon_weight is {self.recon_weight}; expected a weight of 0 or more.")


def find_preset(name: str) -> Preset:
    """The preset that conf/preset/NAME.yaml states. Raises ConfigError, naming those that exist, for another name."""
    files = (conf_folder() / "preset").glob("*.yaml")
    contents = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}
    # Other methods have presets of their own there.
    known = {of: values for of, values in contents.items() if values.pop("_target_") == f"{__name__}.Preset"}
    if name not in known:
        raise ConfigError(f"There is no preset {name!r}; expected one of {', '.join(sorted(known))}.")
    return Preset(**known[name])


@dataclass(frozen=True)
class Readings:
    """Where the released program and another sound reading differ. The defaults give the released numbers.

    Args:
        recon: reconstruction over all pairs of images and decodings, or over "matched" pairs.
        states: anomalous prototypes go to the normal prompt and vice versa, or each to its own ("matched").
        deep: deep tokens rounded to half precision, or "exact".
        upsampling: of patch scores to pixels.
        distance_range: min and max of distances over each image, or over the batch, as the released program does; both
            agree at its batch size of 1.
        latents: test-time draws keyed by image; "fixed", one set for all images; "zero", the prior's mean; or from
            torch's "global" generator, as the released program does.
    """

    recon: ReconReading = "released"
    states: StateReading = "released"
    deep: DeepReading = "released"
    upsampling: Upsampling = "nearest"
    distance_range: DistanceRange = "image"
    latents: Literal["image", "fixed", "zero", "global"] = "image"

    def __post_init__(self) -> None:
        require_choices("readings", self)


@dataclass(frozen=True)
class Components:
    """Which parts of CoPS are there; an ablation takes one away, with its computation, parameters and losses.

    Without states and classes the prompts are the same for every image: static, object-agnostic learnt prompts, the
    idea of AnomalyCLIP (arXiv 2310.18961), on the backbone, losses and maps of CoPS.

    Args:
        states: explicit state tokens (ESTS). Without them there is no extractor, no gather and no scatter loss, and,
            for want of prototypes, no spatial weighting; the learnt state tokens of the prompts stay as they are.
        classes: implicit class tokens (ICTS). Without them there is no VAE, no kl and no recon loss and no draw.
        spatial_weights: patch scores are weighted by the distances to the prototypes.
        image_score: "mixed" is beta * global + (1 - beta) * highest patch score; "global" and "local" are either alone.
            Where the preset's beta is 1, "mixed" and "global" agree.
        deep_prompts: learnt tokens inside the text tower.
    """

    states: bool = True
    classes: bool = True
    spatial_weights: bool = True
    image_score: Literal["mixed", "global", "local"] = "mixed"
    deep_prompts: bool = True

    def __post_init__(self) -> None:
        require_choices("components", self)


@dataclass(frozen=True)
class Sizes:
    """How many tokens of each kind a prompt has, and how many class samples an image gets at inference.

    Args:
        prototypes: of each state, and so state tokens.
        context: context tokens.
        classes: class tokens.
        deep_layers: text layers after the first with learnt tokens of their own; None is the backbone's number.
        deep_tokens: tokens in each of them.
        class_samples: draws of the class tokens, whose text features are averaged.
    """

    prototypes: Annotated[int, Ge(1)] = 6
    context: Annotated[int, Ge(1)] = 6
    classes: Annotated[int, Ge(0)] = 2
    deep_layers: Annotated[int, Ge(0)] | None = None
    deep_tokens: Annotated[int, Ge(1)] = 4
    class_samples: Annotated[int, Ge(1)] = 10
