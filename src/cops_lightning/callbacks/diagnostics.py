"""What a run leaves for the report beside its results: the VAE's health, latent draws, domain shift."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import Subset

from cops_lightning.callbacks.run import RunCallback, decorating
from cops_lightning.core.files import writing
from cops_lightning.core.seeding import image_latents, named_generator
from cops_lightning.core.types import Batch, Features, Sample
from cops_lightning.data.datamodules import AnomalyDataModule, Count, thinned
from cops_lightning.data.dataset import loader
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.metrics.ranking import ranking_scores
from cops_lightning.models.cops import CoPS
from cops_lightning.models.module import CopsModule
from cops_lightning.report.stats.latents import project, vae_health
from cops_lightning.report.stats.shift import Shift, compare_features
from cops_lightning.report.tables import Run

DRAW_COLUMNS = (*Run.__dataclass_fields__, "target", "draw", "level", "metric", "value")


@dataclass(frozen=True)
class Extent:
    """How much is looked at: images per dataset, patches per image, evaluations that differ in latent draws alone."""

    images: int = 48
    patches: int = 8
    draws: int = 4


@dataclass(frozen=True)
class Observed:
    """A sample of one dataset: features, some of the patches, and what repeated latent draws give.

    `patches` holds `Extent.patches` rows per image. `drawn` are image scores and `texts` text features of the two
    states; None for a model without a VAE.
    """

    samples: tuple[Sample, ...]
    image: Float[np.ndarray, "n d"]
    patches: Float[np.ndarray, "k d"]
    drawn: Float[np.ndarray, "n draws"] | None
    texts: Float[np.ndarray, "n draws 2 d"] | None


class Diagnostics(RunCallback, Callback):
    """Writes domain_shift.json, and for a model with a VAE vae_health.json and latent_draws.csv, once it is tested.

    Looks at an even sample of each dataset's test split: the auxiliary one, and every target. Figures of the frozen
    features are those that the method sees: patches are averaged over the preset's neighbourhood. Does nothing for
    another detector than CoPS, and where nothing was trained on.

    Args:
        folder: where the files go; default: the trainer's root folder.
        images: per dataset.
        patches: per image.
        draws: evaluations that differ in latent draws alone.
    """

    def __init__(
        self, folder: str | Path | None = None, images: Count = 48, patches: Count = 8, draws: Count = 4
    ) -> None:
        self.folder, self.extent = folder, Extent(images, patches, draws)

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, and write. What fails is a warning."""
        data, model = trainer.datamodule, getattr(pl_module, "model", None)  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not isinstance(data, AnomalyDataModule) or not isinstance(model, CoPS):
            return
        if data.auxiliary is None:
            return
        assert isinstance(pl_module, CopsModule)
        folder, run, training = self.folder_of(trainer), self.run_of(pl_module), model.training
        model.eval()
        with decorating("What diagnostics look at"):
            indices = {index.name: index for index in (data.auxiliary, *data.targets)}
            observed = {name: observe(model, data, index, self.extent) for name, index in indices.items()}
            head = asdict(run) | {"auxiliary": data.auxiliary.name}
            _write(folder / "domain_shift.json", head | {"targets": domain_shift(observed, data.auxiliary.name)})
            if model.classes is not None:
                _write(folder / "vae_health.json", head | class_token_health(model, observed))
                write_draws(folder / "latent_draws.csv", run, observed)
        model.train(training)


@torch.no_grad()
def observe(model: CoPS, data: AnomalyDataModule, index: DatasetIndex, extent: Extent) -> Observed:
    """Encode a sample of a dataset once; score it under several latent draws, of which the first is the run's own."""
    device = next(model.parameters()).device
    chosen = {sample.key for sample in thinned(index, extent.images).test}
    # Features that training or evaluation left in the cache need no encoding.
    served = data.cached.get(index.name) or data.dataset(index)
    if any(index is target for target in data.targets):
        served = data.tested(index)
    subset = Subset(served, [at for at, sample in enumerate(index.test) if sample.key in chosen])
    samples: list[Sample] = []
    images, patches, drawn, texts = [], [], [], []
    for batch in loader(subset, data.num_workers, batch_size=data.eval_batch_size):
        features = _encoded(model, batch.to(device))
        samples += batch.samples
        images.append(features.image.float().cpu().numpy())
        for name, of_image in zip(batch.names, features.patches.float().cpu().numpy(), strict=True):
            generator = named_generator(model.seed, "diagnostics", name)
            patches.append(of_image[torch.randperm(len(of_image), generator=generator)[: extent.patches].numpy()])
        if model.classes is not None:
            latents = [_latents(model, batch.names, draw).to(device) for draw in range(extent.draws)]
            scores = [model.score_drawn(features, one).image for one in latents]
            drawn.append(torch.stack(scores, dim=1).float().cpu().numpy())
            aligned = [model(features, model.classes.prior_bias(one)).text for one in latents]
            texts.append(torch.stack(aligned, dim=1).float().cpu().numpy())
    return Observed(
        tuple(samples),
        np.concatenate(images),
        np.concatenate(patches),
        np.concatenate(drawn) if drawn else None,
        np.concatenate(texts) if texts else None,
    )


def _encoded(model: CoPS, batch: Batch) -> Features:
    if batch.features is not None:
        return model.prepared(Features(batch.features.image.float(), batch.features.patches.float()))
    assert batch.images is not None
    return model.encode(batch.images)


def _latents(model: CoPS, names: tuple[str, ...], draw: int) -> torch.Tensor:
    if draw == 0:
        return model.draw_latents(names)
    named = tuple(f"{name}#{draw}" for name in names)
    return image_latents(model.seed, named, model.sizes.class_samples, model.backbone.width)


def domain_shift(observed: Mapping[str, Observed], auxiliary: str) -> dict[str, Any]:
    """Distances of every target from the auxiliary dataset, by features of whole images and of patches."""
    source = observed[auxiliary]
    return {
        name: {
            "image": _shift(compare_features(source.image, seen.image)),
            "patch": _shift(compare_features(source.patches, seen.patches)),
        }
        for name, seen in observed.items()
        if name != auxiliary and min(len(source.image), len(seen.image)) > 1
    }


def _shift(shift: Shift) -> dict[str, Any]:
    figures = {key: value for key, value in asdict(shift).items() if key != "test"}
    return figures | {"mmd_p": shift.test.p, "mmd_why": shift.test.why}


def class_token_health(model: CoPS, observed: Mapping[str, Observed], tokens: int = 256) -> dict[str, Any]:
    """The figures of `VaeHealth` for the model's VAE, and a projection of the posterior means for a plot."""
    assert model.classes is not None
    device = next(model.parameters()).device
    means, log_vars, decoded = {}, [], {}
    for name, seen in observed.items():
        posterior = model.classes.vae_encoder(torch.from_numpy(seen.image).to(device))
        means[name] = posterior.mean.cpu().numpy()
        log_vars.append(posterior.log_var.cpu().numpy())
        decoded[name] = model.classes.vae_decoder(posterior.mean).cpu().numpy()
    draws = torch.randn(1, tokens, model.backbone.width, generator=named_generator(model.seed, "diagnostics"))
    health = vae_health(
        {name: seen.image for name, seen in observed.items()},
        decoded,
        np.concatenate(list(means.values())),
        np.concatenate(log_vars),
        model.classes.prior_bias(draws.to(device))[0].cpu().numpy(),
        {name: seen.texts for name, seen in observed.items() if seen.texts is not None},
        {name: seen.drawn for name, seen in observed.items() if seen.drawn is not None},
    )
    plane, explained = project(np.concatenate(list(means.values())))
    bounds = np.cumsum([0, *(len(seen.samples) for seen in observed.values())])
    return {
        "recon_weight": model.preset.recon_weight,
        **asdict(replace(health, kl=np.sort(health.kl)[::-1], gap=np.sort(health.gap)[::-1])),
        "projection": {
            "explained": explained,
            "points": {name: plane[bounds[i] : bounds[i + 1]] for i, name in enumerate(observed)},
        },
    }


def write_draws(path: Path, run: Run, observed: Mapping[str, Observed]) -> None:
    """Image AUROC, the mean over categories, of each dataset under every latent draw: one line per draw.

    Datasets without a category that has both labels are left out.
    """
    with writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(DRAW_COLUMNS)
        for name, seen in observed.items():
            if seen.drawn is None:
                continue
            anomalous = np.array([sample.anomalous for sample in seen.samples])
            categories = np.array([sample.category for sample in seen.samples])
            for draw, scores in enumerate(seen.drawn.T):
                ranked = [
                    ranking_scores(scores[of & ~anomalous], scores[of & anomalous])
                    for of in (categories == category for category in np.unique(categories))
                ]
                aurocs = [scored.auroc for scored in ranked if scored is not None]
                if aurocs:
                    row = (*asdict(run).values(), name, draw, "image", "auroc", repr(float(np.mean(aurocs))))
                    writer.writerow(row)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with writing(path) as file:
        file.write(json.dumps(_plain(content), indent=1) + "\n")


def _plain(value: Any) -> Any:
    """The same without numpy's types, floats to six digits, and null for what is not a number."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
