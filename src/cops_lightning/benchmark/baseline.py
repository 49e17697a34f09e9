"""The released program's way of computing what `CoPS` computes, in our words, to be measured and compared against.

It writes N x N attention weights out twice a layer, gives every prompt of every class sample all positions of CLIP's
context, leaves CLIP unfrozen, computes losses and maps at the size of the image, smooths with scipy, and ranks pixels
that it holds as Python numbers with scikit-learn. Weights, and the formulas that do not differ, are those of a `CoPS`,
so equal results say that the short cuts are exact.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from scipy import ndimage
from torch import Tensor

from cops_lightning.clip.image_encoder import patch_tokens, split_heads
from cops_lightning.clip.request import DEFAULT, FeatureRequest
from cops_lightning.core.types import Features, Images, Labels, Latents, Masks, Noise
from cops_lightning.metrics.pixels import PixelScores
from cops_lightning.metrics.regions import FPR_LIMIT, region_weights
from cops_lightning.models.alignment import image_logits, patch_probabilities
from cops_lightning.models.anomaly_map import SIGMA, Distances, Prototypes, pool_neighbours, spatial_weights
from cops_lightning.models.cops import CoPS
from cops_lightning.models.cops.losses import count_pixels, image_loss, kl_loss, patch_loss, reconstruction_loss


class PlainProgram:
    """The plain implementation over the weights of `model`, which must have states, classes and released readings."""

    def __init__(self, model: CoPS) -> None:
        assert model.states is not None
        assert model.classes is not None
        self.model, self.states, self.classes = model, model.states, model.classes
        self.clip = model.backbone.clip

    def text_features(self, prototypes: Prototypes, biases: Float[Tensor, "b m d"]) -> Float[Tensor, "b 2 d"]:
        """Unit features of both prompts: every position of every prompt of every class sample is encoded."""
        clip, learner = self.clip, self.model.prompt_learner
        prompts = learner(torch.stack(prototypes, dim=1).detach(), biases, self.model.readings.states)
        b, _, m, _, d = prompts.suffix.shape
        prefix = prompts.prefix[:, :, None].expand(-1, -1, m, -1, -1)
        length = prefix.shape[3] + prompts.suffix.shape[3]
        padding = clip.token_embedding.weight[0].expand(b, 2, m, clip.positional_embedding.shape[0] - length, d)
        x = torch.cat([prefix, prompts.suffix, padding], dim=3).flatten(0, 2)
        features = F.normalize(encode_text(clip, x, learner.deep(len(x), self.model.readings.deep), length - 1), dim=-1)
        return F.normalize(features.view(b, 2, m, d).mean(dim=2), dim=-1)

    def losses(self, images: Images, masks: Masks, labels: Labels, noise: Noise) -> dict[str, Tensor]:
        """Training losses with the image encoder computed again, and pixel losses over all pixels."""
        features = self._encode(images)
        prototypes = self.states(features.patches)
        biases, posterior = self.classes.posterior_bias(features.image, noise)
        text = self.text_features(prototypes, biases)
        probabilities = self._at_image_size(patch_probabilities(features.patches, text)).flatten(2).mT
        touched = F.max_pool2d(masks[:, None], self.model.backbone.patch_size).flatten(1) > 0
        distances = _distances(features, prototypes)
        zero = masks.new_zeros(())
        recon = reconstruction_loss(features.image, biases[:, 0], "released")
        parts = {
            "image": image_loss(image_logits(features.image, text), labels),
            "kl": kl_loss(posterior.mean, posterior.log_var),
            "recon": self.model.preset.recon_weight * recon,
            "patch": patch_loss(probabilities, count_pixels(masks, 1)),
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
            features = self._encode(image)
            prototypes = self.states(features.patches)
            text = self.text_features(prototypes, self.classes.prior_bias(latent))
            weights = spatial_weights(_distances(features, prototypes), preset.alpha, "image")
            weighted = patch_probabilities(features.patches, text) * weights[..., None]
            raw = self._at_image_size(weighted)[0, 1].cpu().numpy()
            maps.append(torch.from_numpy(ndimage.gaussian_filter(raw, sigma=SIGMA)))
            likely = image_logits(features.image, text).softmax(dim=-1)[0, 1]
            scores.append(preset.beta * likely + (1 - preset.beta) * weighted[0, :, 1].max())
        return torch.stack(scores).cpu(), torch.stack(maps)

    def _encode(self, images: Images) -> Features:
        features = encode_image(self.clip.visual, images)
        return Features(features.image, pool_neighbours(features.patches, self.model.preset.pool))

    def _at_image_size(self, patch: Float[Tensor, "b p 2"]) -> Float[Tensor, "b 2 s s"]:
        b, p, _ = patch.shape
        side = round(p**0.5)
        return F.interpolate(patch.transpose(1, 2).reshape(b, 2, side, side), size=self.model.image_size)


@torch.no_grad()
def encode_image(visual: VisionTransformer, images: Images, request: FeatureRequest = DEFAULT) -> Features:
    """Features as `request` has them, neither pooled nor normalised: `clip.image_encoder` written out."""
    original = patch_tokens(visual, images, request.positions)
    values, taps = original if request.values_from == 0 else None, []
    for at, block in enumerate(visual.transformer.resblocks, start=1):
        attn = block.attn
        qkv = F.linear(block.ln_1(original), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (split_heads(part, attn.num_heads) for part in qkv.chunk(3, dim=-1))
        if values is not None:
            values = values + attn.out_proj(eager_attention(v, v, v))
        original = original + attn.out_proj(eager_attention(q, k, v))
        original = original + _mlp(block, original, request.activation == "gelu")
        values = original if request.values_from == at else values
        if at in request.read(len(visual.transformer.resblocks)):
            taps.append((original if values is None else values)[:, 1:])
    seen = visual.ln_post(original[:, 0]) if request.global_norm else original[:, 0]
    patches = [visual.ln_post(tap) @ visual.proj if request.patch_space == "joint" else tap for tap in taps]
    return Features(seen @ visual.proj, patches[0] if request.layers is None else torch.stack(patches, dim=1))


def encode_text(
    clip: CLIP, x: Float[Tensor, "n t d"], deep: Sequence[Tensor], ends: int | Tensor, exact_gelu: bool = False
) -> Float[Tensor, "n d"]:
    """Features of prompts given with all positions of CLIP's context, read at `ends`; not normalised."""
    x = x + clip.positional_embedding
    for index, block in enumerate(clip.transformer.resblocks):
        if 1 <= index <= len(deep):
            tokens = deep[index - 1]
            x = torch.cat([x[:, :1], tokens, x[:, 1 + tokens.shape[1] :]], dim=1)
        x = x + block.attention(block.ln_1(x), attn_mask=clip.attn_mask)
        x = x + _mlp(block, x, exact_gelu)
    found: Tensor = clip.ln_final(x)[torch.arange(len(x)), ends] @ clip.text_projection
    return found


def _mlp(block: ResidualAttentionBlock, x: Float[Tensor, "n t d"], exact_gelu: bool) -> Float[Tensor, "n t d"]:
    hidden = block.mlp.c_fc(block.ln_2(x))
    found: Tensor = block.mlp.c_proj(F.gelu(hidden) if exact_gelu else block.mlp.gelu(hidden))
    return found


def eager_attention(
    q: Float[Tensor, "b h t e"], k: Float[Tensor, "b h u e"], v: Float[Tensor, "b h u e"], scale: float | None = None
) -> Float[Tensor, "b t w"]:
    """Attention whose weights are written out, heads joined; without `scale` it is that of a head's width."""
    weights: Tensor = (q @ k.transpose(-2, -1) * (scale or q.shape[-1] ** -0.5)).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _distances(features: Features, prototypes: Prototypes) -> Distances:
    patches = features.patches[:, :, None]
    return Distances(*((1 - F.cosine_similarity(patches, p[:, None], dim=-1)).min(dim=-1).values for p in prototypes))


def plain_metrics(maps: Sequence[Float32[np.ndarray, "s s"]], masks: Sequence[Bool[np.ndarray, "s s"]]) -> PixelScores:
    """Pixel metrics of maps that are all in memory: scikit-learn's, and AUPRO by sorting all pixels at once.

    Masks are held as Python numbers, as released.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score  # takes a second

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
    share = np.zeros(truth.size)
    share[truth] = np.concatenate([region_weights(mask) for mask in masks])
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    rate = np.concatenate([[0], np.cumsum(~truth[order])[last_of_score] / np.count_nonzero(~truth)])
    overlap = np.concatenate([[0], np.cumsum(share[order])[last_of_score] / share.sum()])
    inside = rate <= FPR_LIMIT
    x = np.append(rate[inside], FPR_LIMIT)
    y = np.append(overlap[inside], np.interp(FPR_LIMIT, rate, overlap))
    return float(np.trapezoid(y, x) / FPR_LIMIT)
