"""The works that are measured, each done our way and the plain way on the same inputs and weights.

Weights, images, masks and patch scores are random, drawn from fixed seeds: the time that a work takes and whether both
ways agree do not depend on what they show.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.benchmark import WORK_NAMES
from cops_lightning.benchmark.baseline import PlainProgram, encode_image, plain_metrics
from cops_lightning.benchmark.exported import eager, exported_ways
from cops_lightning.benchmark.measure import Outputs, Way
from cops_lightning.benchmark.peers import PlainAnomalyCLIP, PlainBayesPFL
from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.choices import Precision
from cops_lightning.core.seeding import named_generator
from cops_lightning.export.parity import rendered
from cops_lightning.metrics.pixels import pack_masks, pixel_scores
from cops_lightning.models.anomaly_map import Prototypes
from cops_lightning.models.anomalyclip import AnomalyCLIP
from cops_lightning.models.bayes_pfl import BayesPFL
from cops_lightning.models.cops import CoPS
from cops_lightning.models.cops.model import NOISE
from cops_lightning.models.detector import TrainableDetector

BASELINE = "baseline"
CATEGORY = "metal_nut"
# As the paper trains: the reconstruction loss is on with this preset, so that every loss is measured.
PRESET = "mvtec"
LEARNING_RATE, BETAS = 1e-3, (0.5, 0.999)


@dataclass(frozen=True)
class Setting:
    """What a work is measured on. `precision` is that of the image encoder, which `backbone` already has."""

    backbone: FrozenClip
    image_size: int
    precision: Precision
    device: torch.device

    def model(self) -> CoPS:
        """A fresh CoPS over the shared backbone; every one has the same weights."""
        return CoPS(self.backbone, PRESET, image_size=self.image_size).to(self.device)

    def random(self, *names: str | int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers that depend on `names` alone."""
        return torch.randn(shape, generator=named_generator(0, *names)).to(self.device)

    def images(self, count: int) -> Tensor:
        """Images as they come out of preprocessing."""
        return self.random("images", shape=(count, 3, self.image_size, self.image_size))

    def masks(self, count: int) -> Float[Tensor, "b s s"]:
        """A rectangle of anomalous pixels in every other image."""
        masks = torch.zeros(count, self.image_size, self.image_size, device=self.device)
        side = self.image_size // 3
        masks[1::2, side : 2 * side, side // 2 : side] = 1
        return masks


Ways = dict[str, Way]
"""Ways of doing one work: ours under the name of the row they become, and the plain way as `BASELINE`."""


def encode(setting: Setting, batch: int) -> Ways:
    """The image encoder alone."""
    images, visual = setting.images(batch), setting.backbone.clip.visual

    def plain() -> Outputs:
        features = [encode_image(visual, image) for image in torch.split(images, 1)]
        return torch.cat([f.image for f in features]), torch.cat([f.patches for f in features])

    def ours() -> Outputs:
        features = setting.backbone.encode_image(images)
        return features.image, features.patches

    return {"encode": ours, BASELINE: plain}


def prompts(setting: Setting, batch: int) -> Ways:
    """Text features of both prompts of every class sample at inference; they are encoded in fp32 at any precision."""
    model = setting.model()
    program, sizes, width = PlainProgram(model), model.sizes, model.backbone.width
    drawn = setting.random("prototypes", shape=(batch, 2, sizes.prototypes, width))
    prototypes = Prototypes(*drawn.unbind(dim=1))
    biases = setting.random("biases", shape=(batch, sizes.class_samples, width))

    @torch.no_grad()
    def ours() -> Outputs:
        return (model.text_features(prototypes, biases),)

    @torch.no_grad()
    def plain() -> Outputs:
        pairs = zip(torch.split(drawn, 1), torch.split(biases, 1), strict=True)
        return (torch.cat([program.text_features(Prototypes(*p.unbind(dim=1)), b) for p, b in pairs]),)

    return {"prompts": ours, BASELINE: plain}


def train_epoch(setting: Setting, batch: int) -> Ways:
    """A training step of an epoch: losses, gradients and Adam; with the image encoder, and from features at hand.

    What is compared is the losses of the first step.
    """
    images, masks = setting.images(batch), setting.masks(batch)
    labels = masks.flatten(1).amax(dim=1).long()
    draws = {NOISE: setting.random("noise", shape=(batch, setting.backbone.width))}

    whole, cached, plain = setting.model(), setting.model(), setting.model()
    features = cached.encode(images)
    program, clip = PlainProgram(plain), setting.backbone.clip
    plain_step = _unfrozen(clip, _step(plain, lambda: program.losses(images, masks, labels, draws[NOISE])))

    return {
        "train-epoch": _step(whole, lambda: whole.losses(whole.encode(images), masks, labels, draws)),
        "train-epoch-cached": _step(cached, lambda: cached.losses(features, masks, labels, draws)),
        BASELINE: plain_step,
    }


def _step(model: TrainableDetector, losses: Callable[[], dict[str, Tensor]]) -> Way:
    adam = torch.optim.Adam([p for _, p in model.released_parameters()], lr=LEARNING_RATE, betas=BETAS)

    def run() -> Outputs:
        adam.zero_grad()
        parts = losses()
        parts["total"].backward()  # type: ignore[no-untyped-call]
        adam.step()
        return tuple(parts[name].detach() for name in sorted(parts))

    return run


def _unfrozen(clip: nn.Module, step: Way) -> Way:
    """With gradients of the text tower's weights too, which CoPS as released, and some peers, compute and never use."""

    def run() -> Outputs:
        clip.requires_grad_(True)
        try:
            return step()
        finally:
            clip.requires_grad_(False)
            for parameter in clip.parameters():
                parameter.grad = None

    return run


def peer_training(name: str, setting: Setting, batch: int) -> Ways:
    """A training step of a peer from features at hand, beside one that starts from images."""
    build, program = PEERS[name]
    images, masks = setting.images(batch), setting.masks(batch)
    labels, categories = masks.flatten(1).amax(dim=1).long(), [CATEGORY] * batch
    ours, plain = (build(setting.backbone, image_size=setting.image_size).to(setting.device) for _ in range(2))
    drawn = ours.training_draws([str(number) for number in range(batch)], epoch=0)
    draws = {key: value.to(setting.device) for key, value in drawn.items()}
    features, plainly = ours.encode(images), program(plain)
    plain_step = _step(plain, lambda: plainly.losses(images, masks, labels, draws, categories))
    return {
        f"{name}-train": _step(ours, lambda: ours.losses(features, masks, labels, draws, categories=categories)),
        BASELINE: _unfrozen(setting.backbone.clip, plain_step) if program.unfrozen else plain_step,
    }


def peer_scoring(name: str, setting: Setting, batch: int) -> Ways:
    """Image scores and maps of a peer from features at hand, beside a way that starts from images."""
    build, program = PEERS[name]
    images, categories, names = setting.images(batch), [CATEGORY] * batch, [str(number) for number in range(batch)]
    model = build(setting.backbone, image_size=setting.image_size).to(setting.device)
    features, plainly = model.encode(images), program(model)

    def ours() -> Outputs:
        scores = model.score_features(features, names=names, categories=categories)
        return scores.image, scores.map

    return {f"{name}-score": ours, BASELINE: lambda: plainly.score(images, names, categories)}


def evaluate(setting: Setting, batch: int) -> Ways:
    """From images to image scores and smoothed maps."""
    images, model = setting.images(batch), setting.model()
    latents = setting.random("latents", shape=(batch, model.sizes.class_samples, model.backbone.width))
    program = PlainProgram(model)

    def ours() -> Outputs:
        scores = model.score_drawn(model.encode(images), latents)
        return scores.image, scores.map

    return {"evaluate": ours, BASELINE: lambda: program.score(images, latents)}


def predict(setting: Setting, batch: int) -> Ways:
    """From pixels at the model's size to scores and maps, with the fixed draws, on the CPU: in fp32 by the detector
    itself, which all others are beside.
    """

    def model(backbone: FrozenClip) -> CoPS:
        return CoPS(backbone, PRESET, image_size=setting.image_size)

    here = setting.device.type == "cpu"
    backbone = setting.backbone if here else copy.deepcopy(setting.backbone).cpu()
    plain = eager(model(backbone), rendered(setting.image_size, batch).pixels)
    return {**exported_ways(model, backbone, batch), BASELINE: plain}


def metrics(setting: Setting, batch: int) -> Ways:
    """Pixel AUROC, AP, F1-max and AUPRO of `batch` images from stored patch scores and masks, on the CPU."""
    model = setting.model().cpu()
    grid = setting.image_size // setting.backbone.patch_size
    rough = setting.random("patches", shape=(batch, 1, grid, grid)).cpu()
    # Neighbouring patches score alike, and anomalous ones higher, as in use.
    masks = setting.masks(batch).cpu()
    masks[-1, : setting.image_size // 2] = 1  # without a marked pixel nothing is defined
    inside = F.adaptive_avg_pool2d(masks[:, None], grid)
    patches = torch.sigmoid(F.avg_pool2d(rough, 3, stride=1, padding=1) + inside).flatten(1)
    truth = masks.bool().numpy()
    packed = pack_masks(truth)

    @torch.no_grad()
    def ours() -> Outputs:
        scores = pixel_scores(patches, packed, model.expand)
        assert scores is not None
        return (torch.tensor(scores),)

    @torch.no_grad()
    def plain() -> Outputs:
        return (torch.tensor(plain_metrics([model.expand(patch[None])[0].numpy() for patch in patches], list(truth))),)

    return {"metrics": ours, BASELINE: plain}


class Work(NamedTuple):
    """How a work is made ready, how many images it takes by default, and its precision: None for the setting's."""

    prepare: Callable[[Setting, int], Ways]
    batch: int
    precision: Precision | None = None


# Detectors and their plain implementations.
PEERS: dict[str, tuple[Callable[..., TrainableDetector], Any]] = {
    "anomalyclip": (AnomalyCLIP, PlainAnomalyCLIP),
    "bayes-pfl": (BayesPFL, PlainBayesPFL),
}
_WORKS = (
    *(
        Work(encode, 1),
        Work(prompts, 1, "fp32"),
        Work(train_epoch, 8),
        Work(evaluate, 1),
        Work(predict, 1, "fp32"),
        Work(metrics, 8, "fp32"),
    ),
    *(
        Work(partial(prepare, name), count, "fp32")
        for name in PEERS
        for prepare, count in ((peer_training, 8), (peer_scoring, 1))
    ),
)
WORKS = dict(zip(WORK_NAMES, _WORKS, strict=True))
