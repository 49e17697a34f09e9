"""The released programs' ways of computing what `AnomalyCLIP` and `BayesPFL` compute, in our words; see `baseline`.

They give every prompt all positions of CLIP's context, compute both channels of every pair of prompts at the size of
the image, of all prompts of a bank although one pair is trained, and smooth with scipy. What they compute and never
use, such as maps of attention, is left out, so that ratios to ours are rather too small.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from cops_lightning.benchmark.baseline import eager_attention, encode_image, encode_text
from cops_lightning.core.types import Images, Labels, Masks
from cops_lightning.models.alignment import TEMPERATURE, image_logits
from cops_lightning.models.anomaly_map import SIGMA
from cops_lightning.models.anomalyclip import AnomalyCLIP
from cops_lightning.models.anomalyclip.losses import DICE_SMOOTH, FOCUS, SMOOTHING
from cops_lightning.models.bayes_pfl import BayesPFL
from cops_lightning.models.bayes_pfl.anomaly_map import HEADS
from cops_lightning.models.bayes_pfl.losses import DICE_SMOOTH as SMALL_SMOOTH
from cops_lightning.models.bayes_pfl.losses import EPSILON, divergence, orthogonality
from cops_lightning.models.bayes_pfl.model import ABNORMAL, CONTEXT, MANY, NORMAL, PROMPT, Text
from cops_lightning.models.bayes_pfl.model import SIGMA as WIDE_SIGMA
from cops_lightning.models.bayes_pfl.prompt_learner import words_of

Draws = Mapping[str, Tensor]
Found = tuple[Float[Tensor, " b"], Float[Tensor, "b s s"]]


class PlainAnomalyCLIP:
    """The plain implementation over the weights of `model`."""

    unfrozen: ClassVar[bool] = True
    """Whether training computes gradients of the text tower's weights, which it never uses."""

    def __init__(self, model: AnomalyCLIP) -> None:
        self.model, self.clip = model, model.backbone.clip
        self._text: Tensor | None = None

    def text_features(self) -> Float[Tensor, "2 d"]:
        """Unit features of both prompts."""
        learner = self.model.prompt_learner
        tokens, ends = learner()
        whole = F.pad(tokens, (0, 0, 0, self.clip.positional_embedding.shape[0] - tokens.shape[1]))
        return F.normalize(encode_text(self.clip, whole, learner.deep(), ends), dim=-1)

    def _maps(self, patches: Float[Tensor, "b l p d"], text: Float[Tensor, "2 d"]) -> Float[Tensor, "l b 2 s s"]:
        found = (F.normalize(patches, dim=-1) @ text.T / TEMPERATURE).softmax(dim=-1).permute(1, 0, 3, 2)
        return torch.stack([_upsampled(of_layer, self.model.image_size, False) for of_layer in found])

    def losses(
        self, images: Images, masks: Masks, labels: Labels, _draws: Draws, _categories: Sequence[str]
    ) -> dict[str, Tensor]:
        """Training losses with the image encoder computed again, over all pixels of both channels."""
        features, text = encode_image(self.clip.visual, images, self.model.request), self.text_features()
        image = F.cross_entropy(image_logits(features.image, text.expand(len(images), -1, -1)), labels)
        targets = torch.stack([1 - masks, masks], dim=1)
        parts = []
        for maps in self._maps(features.patches, text):
            pt = (targets.clamp(SMOOTHING, 1 - SMOOTHING) * maps).sum(dim=1) + SMOOTHING
            overlap, sizes = (maps * targets).flatten(2).sum(dim=-1), (maps + targets).flatten(2).sum(dim=-1)
            dice = 1 - (2 * overlap + DICE_SMOOTH) / (sizes + DICE_SMOOTH)
            parts.append(-((1 - pt) ** FOCUS * pt.log()).mean() + dice.mean(dim=0).sum())
        seg = self.model.preset.seg_weight * torch.stack(parts).sum()
        return {"total": image + seg, "image": image, "seg": seg}

    @torch.no_grad()
    def score(self, images: Images, _names: Sequence[str], _categories: Sequence[str]) -> Found:
        """Image scores and smoothed maps, one image at a time; the prompts are encoded at the first call alone."""
        if self._text is None:
            self._text = self.text_features()
        text, scores, maps = self._text, [], []
        for image in torch.split(images, 1):
            features = encode_image(self.clip.visual, image, self.model.request)
            scores.append(image_logits(features.image, text[None]).softmax(dim=-1)[0, 1])
            found = self._maps(features.patches, text)[:, 0]
            maps.append(_smoothed(((found[:, 1] + 1 - found[:, 0]) / 2).sum(dim=0), SIGMA))
        return torch.stack(scores).cpu(), torch.stack(maps)


class PlainBayesPFL:
    """The plain implementation over the weights of `model`; flows, whose formulas do not differ, are its own."""

    unfrozen: ClassVar[bool] = False

    def __init__(self, model: BayesPFL) -> None:
        self.model, self.clip, self.learner = model, model.backbone.clip, model.prompt_learner

    def text_features(self, image: Float[Tensor, "b d"], categories: Sequence[str], draws: Sequence[Tensor]) -> Text:
        """Unit features of all prompts of both states."""
        learner, table = self.learner, self.clip.token_embedding.weight
        flows = (
            learner.PFL_context(image, learner.context_encoder, draws[0]),
            learner.PFL_normal(learner.state_encoder, draws[1]),
            learner.PFL_abnormal(learner.state_encoder, draws[2]),
        )
        learnt = learner(*(of_flow.z for of_flow in flows))
        encoded = []
        for of_image, category in zip(learnt, categories, strict=True):
            rows = of_image.flatten(0, 1)
            numbers = [*self.model._tokenizer.encode(words_of(category)), len(table) - 1]
            ending = table[torch.tensor(numbers, device=table.device)].expand(len(rows), -1, -1)
            x = torch.cat([table[len(table) - 2].expand(len(rows), 1, -1), rows, ending], dim=1)
            end = x.shape[1] - 1
            whole = F.pad(x, (0, 0, 0, self.clip.positional_embedding.shape[0] - x.shape[1]))
            encoded.append(encode_text(self.clip, whole, [], end, exact_gelu=True).view(2, -1, x.shape[-1]))
        return Text(F.normalize(torch.stack(encoded), dim=-1), *flows)

    def _maps(self, patches: Float[Tensor, "b l p w"], text: Float[Tensor, "b 2 k d"]) -> Float[Tensor, "l b 2 k s s"]:
        """Maps of both channels of every pair, upsampled before they are made probabilities."""
        attend, (b, _, _, width) = self.learner.RCA, text.shape
        rows, found = text.flatten(1, 2), []
        queries = attend.q_proj_pre(rows.mT).mT.view(b, -1, HEADS, width // HEADS).transpose(1, 2)
        for of_layer, project in zip(patches.unbind(dim=1), attend.linear_proj, strict=True):
            seen = F.normalize(project(of_layer), dim=-1)
            heads = seen.view(b, -1, HEADS, width // HEADS).transpose(1, 2)
            refined = F.normalize(rows + eager_attention(queries, heads, heads, width**-0.5), dim=-1)
            logits = self.learner.temperature_pixel.exp() * refined @ seen.mT
            found.append(
                _upsampled(logits, self.model.image_size, True)
                .view(b, 2, -1, *2 * (self.model.image_size,))
                .softmax(dim=1)
            )
        return torch.stack(found)

    def _image_logits(
        self, image: Float[Tensor, "b d"], patches: Float[Tensor, "b l p w"], text: Float[Tensor, "b 2 k d"], stage: int
    ) -> Float[Tensor, "b 2 k"]:
        learner = self.learner
        seen = image if stage == 1 else learner.image_mapping(image + learner.fuse(patches))
        cosines = F.normalize(learner.class_mapping(text), dim=-1) @ F.normalize(seen, dim=-1)[:, None, :, None]
        return learner.temperature_image.exp() * cosines[..., 0]

    def losses(
        self, images: Images, masks: Masks, labels: Labels, draws: Draws, categories: Sequence[str]
    ) -> dict[str, Tensor]:
        """Losses of the first stage with the image encoder computed again, and maps of the whole bank."""
        features = encode_image(self.clip.visual, images, self.model.request)
        given = draws[CONTEXT][:, None], draws[NORMAL][None], draws[ABNORMAL][None]
        text = self.text_features(features.image, categories, given)
        one = int(draws[PROMPT])
        image = F.cross_entropy(
            self._image_logits(features.image, features.patches, text.features, 1)[..., one], labels
        )
        focal, dice = [], []
        for maps in self._maps(features.patches, text.features):
            normal, anomalous = maps[:, 0, one], maps[:, 1, one]
            hit = ((1 - anomalous) ** 2 * -(anomalous + EPSILON).log() * masks).sum() / (masks.sum() + EPSILON)
            clear = (1 - normal) ** 2 * -(normal + EPSILON).log() * (1 - masks)
            focal.append(hit + clear.sum() / ((1 - masks).sum() + EPSILON))
            overlap, sizes = (anomalous * masks).sum(), anomalous.sum() + masks.sum()
            dice.append(1 - (2 * overlap + SMALL_SMOOTH) / (sizes + SMALL_SMOOTH))
        shared = {"kl_context": 1, "kl_normal": len(images), "kl_abnormal": len(images)}
        kl = {name: divergence(found, by) for (name, by), found in zip(shared.items(), text[1:], strict=True)}
        parts = {
            "focal": torch.stack(focal).sum(),
            "dice": torch.stack(dice).sum(),
            "dist_reg": torch.stack(list(kl.values())).sum(),
            "orthogonal": orthogonality(text.features),
        }
        parts["seg"] = parts["focal"] + parts["dice"]
        total = image + parts["seg"] + parts["dist_reg"] + parts["orthogonal"]
        return {"total": total, "image": image, **parts, **kl}

    @torch.no_grad()
    def score(self, images: Images, names: Sequence[str], categories: Sequence[str]) -> Found:
        """Image scores and smoothed maps, one image at a time, of categories whose score reads many pixels."""
        draws = {name: value.to(images.device) for name, value in self.model._draws(names).items()}
        scores, maps = [], []
        for image, context, category in zip(
            torch.split(images, 1), torch.split(draws[CONTEXT], 1), categories, strict=True
        ):
            features = encode_image(self.clip.visual, image, self.model.request)
            text = self.text_features(features.image, [category], (context, draws[NORMAL], draws[ABNORMAL])).features
            logits = self._image_logits(features.image, features.patches, text, self.model.stage)
            raw = self._maps(features.patches, text)[:, 0, 1].mean(dim=(0, 1))
            highest = raw.flatten().topk(min(MANY, raw.numel())).values.mean()
            scores.append((logits.softmax(dim=1)[0, 1].mean() + highest) / 2)
            maps.append(_smoothed(raw, WIDE_SIGMA))
        return torch.stack(scores).cpu(), torch.stack(maps)


def _upsampled(grids: Float[Tensor, "b c p"], side: int, corners: bool) -> Float[Tensor, "b c s s"]:
    grid = round(grids.shape[-1] ** 0.5)
    return F.interpolate(
        grids.reshape(*grids.shape[:-1], grid, grid), size=side, mode="bilinear", align_corners=corners
    )


def _smoothed(found: Float[Tensor, "s s"], sigma: float) -> Float[Tensor, "s s"]:
    return torch.from_numpy(ndimage.gaussian_filter(found.cpu().numpy(), sigma=sigma))
