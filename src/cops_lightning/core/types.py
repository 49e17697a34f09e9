"""Values that pass between the stages, and the legend of axes.

Axis letters in every signature: `b` image, `s` image side in pixels, `g` patch-grid side, `p` patch (p = g * g),
`d` joint embedding width, `w` tower width, `t` token, `k` prototype, `m` class sample, and `2` the two states in the
order normal, anomalous.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cops_lightning.core.choices import Split

Images = Float[Tensor, "b 3 s s"]
Masks = Float[Tensor, "b s s"]
Labels = Int[Tensor, " b"]
Latents = Float[Tensor, "b m d"]
Noise = Float[Tensor, "b d"]

# Of matrix products in an encoder, and of the features that are kept.
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# What pixels in [0, 1] are normalised by, per channel, before CLIP sees them.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def category_key(dataset: str, category: str) -> str:
    """The key of a category: dataset/category, in which a slash in either name is "%2F"."""
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in (dataset, category))


@dataclass(frozen=True)
class Sample:
    """One image of a dataset, as found on disk.

    `mask` is None where the image has no mask file: a normal image (its mask is all zero by definition), or any image
    of a dataset without masks; it may be a folder of several masks. `anomalous` is None where nothing says what the
    image is. `key` identifies the file wherever the dataset lies: that of its category (`category_key`), a slash, and
    its path.
    """

    dataset: str
    category: str
    split: Split
    defect: str
    image: Path
    mask: Path | None
    anomalous: bool | None
    key: str

    @property
    def label(self) -> int:
        """0 for a normal image, 1 for an anomalous one, -1 for one without a label."""
        return -1 if self.anomalous is None else int(self.anomalous)


@dataclass(frozen=True)
class Features:
    """What the frozen image encoder computes: `image` is the global feature g, `patches` the features f of patches.

    Patches have an axis of layers where the detector's `FeatureRequest` lists layers, and width w where it reads them
    in the tower. With a `WindowRequest` they are windows.
    """

    image: Float[Tensor, "b d"]
    patches: Float[Tensor, "b *l p e"]


@dataclass(frozen=True)
class Batch:
    """Images of one dataset: preprocessed, or as features that the encoder made of them before (not pooled).

    Either `images` or `features` is None. `masks` holds 0 and 1, and is None for a dataset without masks. `labels` are
    those of `Sample.label`. `names` are those of the preprocessed pixels, see `core.seeding.content_names`: whatever is
    drawn for an image is keyed by them.
    """

    images: Images | None
    masks: Masks | None
    labels: Labels
    samples: tuple[Sample, ...]
    names: tuple[str, ...]
    features: Features | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def keys(self) -> tuple[str, ...]:
        """Which files of a dataset the images are; see `Sample`. Two files of equal pixels have one name, two keys."""
        return tuple(sample.key for sample in self.samples)

    def to(self, device: torch.device | str, non_blocking: bool | None = None) -> "Batch":
        """The same batch on another device. By default copies to a GPU need not wait."""
        if non_blocking is None:
            non_blocking = torch.device(device).type == "cuda"
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, from which copies to a GPU need not wait."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {name: change(of) for name, of in vars(self).items() if isinstance(of, Tensor)}
        if self.features is not None:
            changed["features"] = Features(change(self.features.image), change(self.features.patches))
        return replace(self, **changed)


@dataclass(frozen=True)
class Share:
    """What the losses need to know where a process has only part of a batch.

    `weights`, by name of a loss: the losses of the parts, so weighted and averaged over processes, are those of the
    whole batch. `images` holds the global features g of the whole batch. `total` makes sums over a part those over the
    whole batch, for losses that are no mean over images; their gradients, averaged over processes, are of the whole.
    """

    weights: Mapping[str, float | Tensor]
    images: Float[Tensor, "n d"]
    total: Callable[[Tensor], Tensor]


StateDict = Mapping[str, Tensor]
