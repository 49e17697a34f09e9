"""The LightningModule of every detector: steps, optimiser, metrics and checkpoints around it; no mathematics."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import LightningModule
from torch import Tensor
from torch.utils.data import Subset
from torchmetrics import Metric

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.config.options import default_nodes
from cops_lightning.core.distributed import from_all, from_first, world_size
from cops_lightning.core.errors import CheckpointError, ConfigError, CopsError
from cops_lightning.core.measured import Level, MetricRow
from cops_lightning.core.names import printable
from cops_lightning.core.seeding import FIXED
from cops_lightning.core.tensor_files import require_whole
from cops_lightning.core.types import Batch, Features, Images, Sample
from cops_lightning.data.protocol import categories_of, images_of, require_unseen
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.metrics.suite import MetricSuite, scalars
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.build import build_detector, build_further_metrics, build_partial, find_node
from cops_lightning.models.checkpoint import DRAWS, HYPER_PARAMETERS, SAVED, Saved, draws_of, read_checkpoint
from cops_lightning.models.detector import Detector, FeatureDetector, TrainableDetector
from cops_lightning.models.prediction import Prediction
from cops_lightning.models.sharing import mean_over_processes, share_of

Node = Mapping[str, Any]
OptimizerFactory = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class ScoredImage:
    """An evaluated image: its score, and the patch scores that its map expands from, on the CPU."""

    sample: Sample
    score: float
    patches: Tensor


@dataclass
class EncoderCount:
    """Images that went through the image encoder, and images that did not need to, as the cache had their features."""

    encoded: int = 0
    from_cache: int = 0


class Step(NamedTuple):
    """A training step's loss on its way to the CPU, where it is once `copied` has happened."""

    number: int
    loss: Tensor
    copied: torch.cuda.Event | None


class Pending(NamedTuple):
    """An evaluated batch on its way to the CPU, where it is once `copied` has happened."""

    target: int
    batch: Batch
    image: Tensor
    patch: Tensor
    masks: Tensor | None
    labels: Tensor
    copied: torch.cuda.Event | None


class CopsModule(LightningModule):
    """Any detector of this library for Lightning's Trainer: fit, validate, test and predict.

    Testing logs every metric that a target defines as TARGET/LEVEL_METRIC, such as btad/image_auroc, and per category
    as TARGET/CATEGORY/LEVEL_METRIC; validation the same below val/. All lie in [0, 1]. Checkpoints hold the trained
    weights alone; the frozen CLIP is named by the hash of its weights. Data modules of `cops_lightning.data` fit it.

    Args:
        model: a detector, the name of one in conf/model, or a node: a mapping with `_target_` and its arguments;
            default: what the checkpoint says, else cops.
        backbone: a FrozenClip, the name of one in conf/backbone, or a node; default: what the checkpoint says, else the
            packaged mini. Not looked at where `model` is a detector.
        preset: the name of one in conf/preset, for a model that is given by name; default: the model's own.
        seed: of fresh weights, order and draws, for a model that is given by name.
        optimizer: takes the trained parameters and gives an optimiser, or such a node; default: conf/optimizer/adam.
        scheduler: takes the optimiser and gives a scheduler that steps once an epoch, or such a node; default: none.
        metrics: further torchmetrics by level, image or pixel, and name; see `metrics.suite.MetricSuite`.
        saved: what a checkpoint holds of the settings. Only classes of this library are built from it.

    Raises ConfigError for settings, and WeightsError for a backbone, that cannot be used.
    """

    def __init__(
        self,
        model: Detector | str | Node | None = None,
        backbone: FrozenClip | str | Node | None = None,
        *,
        preset: str | None = None,
        seed: int = 0,
        optimizer: OptimizerFactory | Node | None = None,
        scheduler: Callable[..., Any] | Node | None = None,
        metrics: Mapping[Level, Mapping[str, Metric]] | Node | None = None,
        saved: Saved | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.saved = saved if isinstance(saved, Saved) else Saved() if saved is None else Saved.from_plain(saved)
        if not isinstance(model, Detector):
            if saved is not None:
                model = self.saved.own_model() if model is None else model
                backbone = self.saved.own_backbone() if backbone is None else backbone
            asked = [f"seed={seed}", *([] if preset is None else [f"preset={preset}"])]
            node = find_node("model", "cops" if model is None else model, *asked)
            given = "mini" if backbone is None else backbone
            frozen = given if isinstance(given, FrozenClip) else find_node("backbone", given)
            self.saved = self.saved.with_nodes(node, None if isinstance(frozen, FrozenClip) else frozen)
            model = build_detector(node, frozen)
        self.model: Detector = model
        record = model.backbone.record
        self.saved.require_backbone(record)
        self.saved = replace(self.saved, backbone=record.name, fingerprint=record.fingerprint)
        self._optimizer, self._scheduler = optimizer, scheduler
        self._metrics = build_further_metrics(metrics or {})
        self.suites: list[MetricSuite] = []
        self.scored: list[list[ScoredImage]] = []
        self.rows: list[MetricRow] = []
        self.count = EncoderCount()
        self.show_progress: Callable[[MetricSuite], list[MetricRow]] = MetricSuite.rows
        self._pending: Pending | None = None
        self._steps: deque[Step] = deque()
        self._last: tuple[Features, Batch] | None = None

    @property
    def image_size(self) -> int:
        """Side of the images that the detector takes, in pixels."""
        return self.model.image_size

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Every "dataset/category" whose images were trained on."""
        return self.saved.trained_on

    @property
    def trains(self) -> bool:
        """Whether the detector learns."""
        return isinstance(self.model, TrainableDetector)

    def forward(self, images: Images, names: Sequence[str] | None = None) -> Scores:
        """Anomaly scores of preprocessed images; see `Detector.score`."""
        return self.model.score(images, names=names)

    def setup(self, stage: str) -> None:
        """What loggers write down of the settings, where no command hands them all of a run."""
        if not self.saved.run:
            nodes = {
                "model": self.saved.model_node or type(self.model).__name__,
                "backbone": self.saved.backbone_node or self.saved.backbone,
                "optimizer": self._optimizer,
                "scheduler": self._scheduler,
            }
            self.save_hyperparameters({key: node for key, node in nodes.items() if isinstance(node, str | Mapping)})

    # ---- training

    def configure_optimizers(self) -> Any:
        """The optimiser over everything that trains, and its scheduler, stepped once an epoch, if there is one."""
        if not isinstance(self.model, TrainableDetector):
            raise ConfigError(f"{type(self.model).__name__} learns nothing, so it cannot be fitted; test it.")
        factory = self._optimizer if self._optimizer is not None else default_nodes()["optimizer"]
        model, optimizer = self.model, build_partial(factory)(self.model.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * group.pop("scale", 1)
        if self._scheduler is not None:
            return {"optimizer": optimizer, "lr_scheduler": build_partial(self._scheduler)(optimizer)}
        if model.rate_factor(0, 1) is None:
            return optimizer
        assert self.trainer.estimated_stepping_batches, "which finds how many batches an epoch has"
        batches = int(self.trainer.num_training_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: model.rate_factor(step, batches))  # type: ignore[arg-type,return-value]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Tell the detector."""
        assert isinstance(self.model, TrainableDetector)
        self.model.start_epoch(self.current_epoch, self.optimizers(use_pl_optimizer=False))  # type: ignore[arg-type]

    def on_fit_start(self) -> None:
        """Keep what is trained on: it must not be tested on."""
        index = getattr(self.trainer.datamodule, "auxiliary", None)  # type: ignore[attr-defined]
        self._trained(() if index is None else index.test)

    def on_train_start(self) -> None:
        """The same for loaders without a data module."""
        self._trained(getattr(getattr(self.trainer.train_dataloader, "dataset", None), "samples", ()))

    def _trained(self, samples: Sequence[Sample]) -> None:
        named = dict.fromkeys((*self.trained_on, *categories_of(samples)))
        images = dict.fromkeys((*self.saved.trained_images, *images_of(samples)))
        self.saved = replace(self.saved, trained_on=tuple(named), trained_images=tuple(images))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Total loss of a batch; every part is logged as train/PART."""
        model = self.model
        assert isinstance(model, TrainableDetector)
        features = self._features(model, batch)
        drawn = model.training_draws(batch.names, self.current_epoch, batch_idx)
        draws = {name: value.to(self.device) for name, value in drawn.items()}
        share, size = None, len(batch)
        if world_size() > 1:
            batches = self.trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
            share = share_of(batches, batch_idx, features, batch.masks, model.backbone.patch_size)
            size = batches.whole(batch_idx)
        categories = [sample.category for sample in batch.samples]
        losses = model.losses(features, batch.masks, batch.labels, draws, share, categories=categories)
        shown = mean_over_processes({name: value.detach() for name, value in losses.items()})
        logged = {f"train/{name}": value for name, value in shown.items()}
        self.log_dict(logged, on_step=True, on_epoch=True, batch_size=size)
        self.log("loss", shown["total"], prog_bar=True, logger=False, batch_size=size)
        self._last = features, batch
        total = shown["total"].detach()
        copied = torch.cuda.current_stream().record_event() if total.is_cuda else None
        self._steps.append(Step(self.global_step, total.to("cpu", non_blocking=total.is_cuda), copied))
        self._require_finite(on_its_way=1 if total.is_cuda else 0)
        return losses["total"]

    def on_train_epoch_end(self) -> None:
        """Before a checkpoint is saved, score once with the last step's weights; raises CopsError as a step does."""
        self._require_finite(on_its_way=0)
        if self._last is None:
            return
        (features, batch), self._last = self._last, None
        assert isinstance(self.model, FeatureDetector)
        with torch.no_grad():
            scores = self.model.score_features(
                features, names=batch.names, categories=[sample.category for sample in batch.samples]
            )
        parts = mean_over_processes({"image": scores.image.mean(), "patch": scores.patch.mean()})
        self._steps.append(Step(self.global_step, torch.stack(list(parts.values())).sum().cpu(), None))
        self._require_finite(on_its_way=0)

    def _require_finite(self, on_its_way: int) -> None:
        """Raise CopsError if the loss of a step is no number; a GPU's last one is not waited for."""
        while len(self._steps) > on_its_way:
            step, loss, copied = self._steps.popleft()
            if copied is not None:
                copied.synchronize()
            if not loss.isfinite():
                raise CopsError(
                    f"The training went wrong: at step {step}, in epoch {self.current_epoch}, loss or scores are "
                    f"{loss.item()}. Weights from there on are useless, and none was saved. Lower the learning rate "
                    "(optimizer.lr), or begin with other weights."
                )

    # ---- evaluation

    def on_validation_epoch_start(self) -> None:
        """A fresh metric suite per validation set."""
        self._expect(self.trainer.val_dataloaders)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores of a batch, into the suite of its dataset."""
        self._evaluate(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics as val/DATASET/..."""
        self._conclude("val/")

    def on_test_start(self) -> None:
        """Refuse what was trained on, unless the data module names it in `evaluate_seen`."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        loaders = _listed(self.trainer.test_dataloaders)
        require_unseen(
            [(name, samples) for loader in loaders for name, samples in [_tested(loader)] if samples],
            self.trained_on,
            self.saved.trained_images,
            tuple(getattr(data, "evaluate_seen", ())),
        )

    def on_test_epoch_start(self) -> None:
        """A fresh metric suite per target."""
        self._expect(self.trainer.test_dataloaders)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores of a batch, into the suite of its target."""
        self._evaluate(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Log the metrics as TARGET/..."""
        self._conclude("")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[Prediction]:
        """What is found in every image of a batch, with the same draws for all, as by `Detector.predict`."""
        scores = self._scores(replace(batch, names=(FIXED,) * len(batch)))
        return [
            Prediction(Picture(str(sample.image), sample.image), score, patch, self.model.expand)
            for sample, score, patch in zip(batch.samples, scores.image.tolist(), scores.patch.cpu(), strict=True)
        ]

    def _expect(self, loaders: Any) -> None:
        names = [name for loader in _listed(loaders) for name, _ in [_tested(loader)]]
        self.suites = [MetricSuite(name, self.model.expand, self._metrics) for name in names]
        self.scored = [[] for _ in names]

    def _scores(self, batch: Batch) -> Scores:
        categories = [sample.category for sample in batch.samples]
        if isinstance(self.model, FeatureDetector):
            features = self._features(self.model, batch)
            return self.model.score_features(features, names=batch.names, categories=categories)
        assert batch.images is not None, "a model that reads images is not served features"
        self.count.encoded += len(batch)
        return self.model.score(batch.images, names=batch.names, categories=categories)

    def _evaluate(self, batch: Batch, target: int) -> None:
        scores = self._scores(batch)
        on_gpu = scores.image.is_cuda

        def fetched(tensor: Tensor) -> Tensor:
            return tensor.to("cpu", non_blocking=on_gpu)

        image, patch, labels = fetched(scores.image.float()), fetched(scores.patch.float()), fetched(batch.labels)
        masks = None if batch.masks is None else fetched(batch.masks)
        copied = torch.cuda.current_stream().record_event() if on_gpu else None
        # The batch before is taken in while the GPU computes this one.
        self._take_in()
        self._pending = Pending(target, batch, image, patch, masks, labels, copied)

    def _take_in(self) -> None:
        if self._pending is None:
            return
        target, batch, image, patch, masks, labels, copied = self._pending
        self._pending = None
        if copied is not None:
            copied.synchronize()
        categories = [sample.category for sample in batch.samples]
        self.suites[target].update(image, patch, masks, labels, categories, batch.keys)
        self.scored[target].extend(map(ScoredImage, batch.samples, image.tolist(), patch))

    def _conclude(self, prefix: str) -> None:
        self._take_in()
        self.rows = []
        for suite in self.suites:
            rows = self.show_progress(suite)
            self.rows += rows
            values = {printable(f"{prefix}{suite.target}/{name}"): value for name, value in scalars(rows).items()}
            if self.device.type == "mps":  # which has no fp64
                values = {name: value.float() for name, value in values.items()}
            self.log_dict(values, sync_dist=world_size() > 1)

    def images_of_all(self) -> list[list[ScoredImage]]:
        """The scored images of every target, of all processes, in the order of the dataset. All must ask together."""
        merged = []
        parts = from_all(self.scored)
        for target in range(len(self.scored)):
            shares = [part[target] for part in parts]
            whole = [shares[0][0]] * sum(map(len, shares)) if shares[0] else []
            for at, share in enumerate(shares):
                whole[at :: len(shares)] = share
            merged.append(whole)
        return merged

    def count_of_all(self) -> EncoderCount:
        """The encoder's count over all processes. All must ask together."""
        counts = from_all((self.count.encoded, self.count.from_cache))
        return EncoderCount(*(sum(column) for column in zip(*counts, strict=True)))

    def _features(self, model: FeatureDetector, batch: Batch) -> Features:
        """Features from the cache, or of images that the encoder sees now."""
        if batch.features is not None:
            return model.prepared(Features(batch.features.image.float(), batch.features.patches.float()))
        assert batch.images is not None, "a batch has images or features"
        self.count.encoded += len(batch)
        return model.encode(batch.images)

    # ---- prediction without a trainer

    def predict(self, source: Any, **options: Any) -> Iterator[Prediction]:
        """Path, score and anomaly map of images, one at a time; see `Detector.predict`."""
        return self.model.predict(source, **options)

    # ---- checkpoints

    @classmethod
    def load_from_checkpoint(
        cls, checkpoint_path: Any, *args: Any, weights_only: bool | None = True, **kwargs: Any
    ) -> Any:
        """The module of a checkpoint; arguments of the constructor take the place of what it says.

        Only tensors and plain values are read, unless `weights_only` is False: then the file may run code. Raises
        CheckpointError where it holds anything else, or does not say what it needs.
        """
        if weights_only and not isinstance(checkpoint_path, str | Path):
            raise CheckpointError(f"load_from_checkpoint got a {type(checkpoint_path).__name__}; expected a path.")
        if weights_only and read_checkpoint(Path(checkpoint_path)).saved is None:
            raise CheckpointError(
                f"{checkpoint_path} is in the released format, which is no checkpoint of Lightning's. Open it by "
                'cops_lightning.load(path, auxiliary="visa", backbone="vit_l14_336").'
            )
        kwargs["weights_only"] = weights_only
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Trained weights under their released names, behind `prefix`; the frozen backbone is left out."""
        state = {} if destination is None else destination
        if isinstance(self.model, TrainableDetector):
            for name, parameter in self.model.released_parameters():
                state[prefix + name] = parameter if keep_vars else parameter.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take exactly the weights that `state_dict` gives. Raises CheckpointError naming what differs."""
        if isinstance(self.model, TrainableDetector):
            self.model.load_trained(state_dict)
        elif state_dict:
            raise CheckpointError(f"The checkpoint holds weights, and {type(self.model).__name__} has none to fill.")
        return torch.nn.modules.module._IncompatibleKeys([], [])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the checkpoint says about itself."""
        saved = self.saved
        if isinstance(self.model, TrainableDetector) and saved.model_node is not None:
            saved = replace(saved, model_node={**saved.model_node, **self.model.reached})
        checkpoint[HYPER_PARAMETERS] = {SAVED: saved.as_plain()}
        if isinstance(self.model, TrainableDetector) and (draws := self.model.fixed_draws()):
            checkpoint[DRAWS] = draws

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that were trained on another backbone; take over what they were trained on."""
        saved = Saved.of_checkpoint(checkpoint, Path("The checkpoint"))
        saved.require_backbone(self.model.backbone.record)
        if isinstance(self.model, TrainableDetector):
            self.model.load_fixed_draws(draws_of(checkpoint))
        self.saved = replace(self.saved, trained_on=saved.trained_on, trained_images=saved.trained_images)
        resumed = self._trainer.ckpt_path if self._trainer is not None else None
        if resumed and Path(resumed).is_file():  # which a Trainer without `WholeFiles` has read as it is
            require_whole(Path(resumed), CheckpointError)


def _listed(loaders: Any) -> list[Any]:
    return [] if loaders is None else list(loaders) if isinstance(loaders, list | tuple) else [loaders]


def _tested(loader: Any) -> tuple[str, Sequence[Sample]]:
    """The name of a loader's dataset, and its samples as far as they are known before they are read."""
    dataset = getattr(loader, "dataset", None)
    whole = dataset.dataset if isinstance(dataset, Subset) else dataset
    samples: Sequence[Sample] = getattr(whole, "samples", ())
    if samples and isinstance(dataset, Subset):
        samples = [samples[place] for place in dataset.indices]
    name = getattr(whole, "name", None) or (samples[0].dataset if samples else None)
    return from_first(name or "images"), samples
