"""The released program's way of computing what `CoPS` computes, in our words, to be measured and compared against.

It writes N x N attention weights out twice a layer, gives every prompt of every class sample all positions of CLIP's
context, leaves CLIP unfrozen, computes losses and maps at the size of the image, smooths with scipy, and ranks pixels
that it holds as Python numbers with scikit-learn. It takes its weights from a `CoPS`, so equal results also say that
the short cuts are exact.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from open_clip.transformer import VisionTransformer
from scipy import ndimage
from torch import Tensor

from cops_lightning.clip.image_encoder import patch_tokens, split_heads
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.types import Features, Images, Labels, Latents, Masks, Noise
from cops_lightning.metrics import PixelScores
from cops_lightning.metrics.regions import FPR_LIMIT
from cops_lightning.models.alignment import TEMPERATURE
from cops_lightning.models.anomaly_map import SIGMA, Distances, Prototypes
from cops_lightning.models.cops import CoPS
from cops_lightning.models.cops.class_tokens import ClassTokens
from cops_lightning.models.cops.losses import DICE_SMOOTH, FOCUS, SMOOTHING
from cops_lightning.models.cops.state_tokens import StateTokens


class PlainProgram:
    """The plain implementation over the weights of `model`, which must have states, classes and released readings."""

    def __init__(self, model: CoPS) -> None:
        self.model = model
        self.clip = model.backbone.clip

    @property
    def states(self) -> StateTokens:
        """Explicit state tokens of the model."""
        assert self.model.states is not None
        return self.model.states

    @property
    def classes(self) -> ClassTokens:
        """Implicit class tokens of the model."""
        assert self.model.classes is not None
        return self.model.classes

    def text_features(self, prototypes: Prototypes, biases: Float[Tensor, "b m d"]) -> Float[Tensor, "b 2 d"]:
        """Unit features of both prompts: every position of every prompt of every class sample is encoded."""
        clip, learner = self.clip, self.model.prompt_learner
        prompts = learner(torch.stack(prototypes, dim=1).detach(), biases, self.model.readings.states)
        b, _, m, _, d = prompts.suffix.shape
        prefix = prompts.prefix[:, :, None].expand(-1, -1, m, -1, -1)
        length = prefix.shape[3] + prompts.suffix.shape[3]
        padding = clip.token_embedding.weight[0].expand(b, 2, m, clip.positional_embedding.shape[0] - length, d)
        x = torch.cat([prefix, prompts.suffix, padding], dim=3).flatten(0, 2) + clip.positional_embedding
        deep = learner.deep(len(x), self.model.readings.deep)
        for index, block in enumerate(clip.transformer.resblocks):
            if 1 <= index <= len(deep):
                tokens = deep[index - 1]
                x = torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], dim=1)
            x = block(x, attn_mask=clip.attn_mask)
        features = F.normalize(clip.ln_final(x)[:, length - 1] @ clip.text_projection, dim=-1)
        return F.normalize(features.view(b, 2, m, d).mean(dim=2), dim=-1)

    def losses(self, images: Images, masks: Masks, labels: Labels, noise: Noise) -> dict[str, Tensor]:
        """Training losses with the image encoder computed again, and pixel losses over all pixels."""
        features = self._pooled(encode_image(self.clip.visual, images))
        prototypes = self.states(features.patches)
        biases, posterior = self.classes.posterior_bias(features.image, noise)
        text = self.text_features(prototypes, biases)
        probabilities = self._at_image_size(self._patch_probabilities(features, text))
        normal, anomalous = probabilities.unbind(dim=1)
        touched = F.max_pool2d(masks[:, None], self.model.backbone.patch_size).flatten(1) > 0
        distances = self._distances(features, prototypes)
        zero = masks.new_zeros(())
        parts = {
            "image": F.cross_entropy(self._image_logits(features, text), labels),
            "kl": -0.5 * (1 + posterior.log_var - posterior.mean**2 - posterior.log_var.exp()).sum(dim=1).mean(),
            "recon": self.model.preset.recon_weight * (features.image[:, None] - biases[:, 0][None]).square().mean(),
            "patch": _focal(probabilities, masks) + _dice(anomalous, masks) + _dice(normal, 1 - masks),
            "gather": distances.normal[~touched].mean() if (~touched).any() else zero,
            "scatter": distances.anomalous[touched].mean() if touched.any() else zero,
        }
        total = sum((4 * loss if name == "patch" else loss for name, loss in parts.items()), zero)
        return {"total": total, **parts}

    @torch.no_grad()
    def score(self, images: Images, latents: Latents) -> tuple[Float[Tensor, " b"], Float[Tensor, "b s s"]]:
        """Image scores and smoothed maps, one image at a time, on the CPU."""
        scores, maps = [], []
        preset = self.model.preset
        for image, latent in zip(torch.split(images, 1), torch.split(latents, 1), strict=True):
            features = self._pooled(encode_image(self.clip.visual, image))
            prototypes = self.states(features.patches)
            text = self.text_features(prototypes, self.classes.prior_bias(latent))
            normal, anomalous = (_minmax(d[0]) for d in self._distances(features, prototypes))
            weights = preset.alpha * normal + (1 - preset.alpha) * (1 - anomalous)
            weighted = self._patch_probabilities(features, text) * weights[None, :, None]
            raw = self._at_image_size(weighted)[0, 1].cpu().numpy()
            maps.append(torch.from_numpy(ndimage.gaussian_filter(raw, sigma=SIGMA)))
            likely = self._image_logits(features, text).softmax(dim=-1)[0, 1]
            scores.append(preset.beta * likely + (1 - preset.beta) * weighted[0, :, 1].max())
        return torch.stack(scores).cpu(), torch.stack(maps)

    def _pooled(self, features: Features) -> Features:
        b, p, d = features.patches.shape
        window, side = self.model.preset.pool, round(p**0.5)
        grid = features.patches.permute(0, 2, 1).reshape(b, d, side, side)
        grid = F.avg_pool2d(grid, window, stride=1, padding=window // 2)
        return Features(features.image, grid.reshape(b, d, p).permute(0, 2, 1))

    def _distances(self, features: Features, prototypes: Prototypes) -> Distances:
        patches = features.patches[:, :, None]
        nearest = [
            (1 - F.cosine_similarity(patches, of_state[:, None], dim=-1)).min(dim=-1).values for of_state in prototypes
        ]
        return Distances(*nearest)

    def _patch_probabilities(self, features: Features, text: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b p 2"]:
        patches = F.normalize(features.patches, dim=-1)
        return (patches @ text.transpose(1, 2) / TEMPERATURE).softmax(dim=-1)

    def _image_logits(self, features: Features, text: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b 2"]:
        return (F.normalize(features.image, dim=-1)[:, None] @ text.transpose(1, 2))[:, 0] / TEMPERATURE

    def _at_image_size(self, patch: Float[Tensor, "b p 2"]) -> Float[Tensor, "b 2 s s"]:
        b, p, _ = patch.shape
        side = round(p**0.5)
        return F.interpolate(patch.transpose(1, 2).reshape(b, 2, side, side), size=self.model.image_size)


@torch.no_grad()
def encode_image(visual: VisionTransformer, images: Images) -> Features:
    """Global and patch features, neither pooled nor normalised: both paths of `clip.image_encoder`, written out."""
    original = values = patch_tokens(visual, images)
    for block in visual.transformer.resblocks:
        attn = block.attn
        qkv = F.linear(block.ln_1(original), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (split_heads(part, attn.num_heads) for part in qkv.chunk(3, dim=-1))
        values = values + attn.out_proj(_eager_attention(v, v, v))
        original = original + attn.out_proj(_eager_attention(q, k, v))
        original = original + block.mlp(block.ln_2(original))
    return Features(image=original[:, 0] @ visual.proj, patches=visual.ln_post(values)[:, 1:] @ visual.proj)


def _eager_attention(
    q: Float[Tensor, "b h t e"], k: Float[Tensor, "b h t e"], v: Float[Tensor, "b h t e"]
) -> Float[Tensor, "b t w"]:
    weights: Tensor = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _minmax(x: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    return (x - x.min()) / (x.max() - x.min())


def _focal(probabilities: Float[Tensor, "b 2 s s"], masks: Masks) -> Float[Tensor, ""]:
    target = F.one_hot(masks.long(), 2).permute(0, 3, 1, 2).float().clamp(SMOOTHING, 1 - SMOOTHING)
    pt = (target * probabilities).sum(dim=1) + SMOOTHING
    return -((1 - pt) ** FOCUS * pt.log()).mean()


def _dice(probability: Float[Tensor, "b s s"], target: Float[Tensor, "b s s"]) -> Float[Tensor, ""]:
    p, t = probability.flatten(1), target.flatten(1)
    overlap = (2 * (p * t).sum(dim=1) + DICE_SMOOTH) / (p.sum(dim=1) + t.sum(dim=1) + DICE_SMOOTH)
    return 1 - overlap.mean()


def plain_metrics(maps: Sequence[Float32[np.ndarray, "s s"]], masks: Sequence[Bool[np.ndarray, "s s"]]) -> PixelScores:
    """Pixel metrics of maps that are all in memory: scikit-learn's, and AUPRO by sorting all pixels at once.

    Masks are held as Python numbers, as released. Raises ConfigError if scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
    except ImportError:
        raise ConfigError(
            "The baseline's metrics need scikit-learn, which is not installed. Run pip install cops_lightning[bench], "
            "or leave the baseline out by --no-baseline."
        ) from None
    truth = np.array([pixel for mask in masks for pixel in mask.ravel().tolist()])
    scores = np.concatenate([map_.ravel() for map_ in maps])
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return PixelScores(
        float(roc_auc_score(truth, scores)),
        float(average_precision_score(truth, scores)),
        float(f1.max()),
        _aupro(scores, truth, masks),
    )


def _aupro(
    scores: Float32[np.ndarray, " n"], truth: Bool[np.ndarray, " n"], masks: Sequence[Bool[np.ndarray, "s s"]]
) -> float:
    """Area under the curve of mean region overlap over the false positive rate up to the limit, over the limit."""
    shares = []
    for mask in masks:
        regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(regions.ravel())
        shares.append(np.where(mask, 1 / sizes[regions], 0).ravel())
    share = np.concatenate(shares)
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    rate = np.concatenate([[0], np.cumsum(~truth[order])[last_of_score] / np.count_nonzero(~truth)])
    overlap = np.concatenate([[0], np.cumsum(share[order])[last_of_score] / share.sum()])
    inside = rate <= FPR_LIMIT
    x = np.append(rate[inside], FPR_LIMIT)
    y = np.append(overlap[inside], np.interp(FPR_LIMIT, rate, overlap))
    return float(np.trapezoid(y, x) / FPR_LIMIT)
