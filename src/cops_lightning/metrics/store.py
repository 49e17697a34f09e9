"""What is kept of each evaluated image, and how several processes put theirs together."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt8
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from cops_lightning.core.errors import ScoresError
from cops_lightning.metrics.pixels import pack_masks

_UNKEYED = -1
_STATES = {
    "image_scores": torch.float64,
    "patch_scores": torch.float32,
    "masks": torch.uint8,  # of the images that have one, as `pack_masks` leaves them
    "masked": torch.bool,
    "anomalous": torch.bool,
    "keys": torch.int64,
    "categories": torch.uint8,  # each name as JSON on a line of its own, whatever it holds
}


@dataclass(frozen=True)
class StoredImages:
    """Images of all processes, each once. `masks` has a row for every image that is `masked`."""

    image_scores: Float[np.ndarray, " n"]
    patch_scores: Float[Tensor, "n p"]
    masks: UInt8[np.ndarray, "m bytes"]
    masked: Bool[np.ndarray, " n"]
    anomalous: Bool[np.ndarray, " n"]
    categories: Shaped[np.ndarray, " n"]

    @property
    def ranked(self) -> tuple[Float[np.ndarray, " normal"], Float[np.ndarray, " anomalous"]]:
        """Image scores of the normal and of the anomalous images."""
        return self.image_scores[~self.anomalous], self.image_scores[self.anomalous]

    def only(self, chosen: Int64[np.ndarray, " k"]) -> "StoredImages":
        """Images by their places, in that order."""
        masked = self.masked[chosen]
        return StoredImages(
            self.image_scores[chosen],
            self.patch_scores[chosen],
            self.masks[np.cumsum(self.masked)[chosen[masked]] - 1],
            masked,
            self.anomalous[chosen],
            self.categories[chosen],
        )

    def by_category(self) -> Iterator[tuple[str, "StoredImages"]]:
        """The images of each category, categories in alphabetical order."""
        names, places = np.unique(self.categories, return_inverse=True)
        for place, category in enumerate(names.tolist()):
            yield category, self.only(np.flatnonzero(places == place))


class ImageStore(Metric):
    """Collects the images of a target: scores of image and patches, mask (a bit a pixel), label, category, hash of key.

    States lie on the CPU, where they are evaluated, and are flat, so that processes without images can join in.
    """

    full_state_update = False

    def __init__(self, target: str) -> None:
        super().__init__(dist_sync_fn=_gather, compute_with_cache=False)
        self.target = target
        for name in _STATES:
            self.add_state(name, [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        for name, dtype in _STATES.items():  # a process without images has states of the right type to gather
            setattr(self, name, [torch.empty(0, dtype=dtype)])
        self._sizes: dict[str, int] = {}

    def update(
        self,
        image_scores: Float[Tensor, " b"],
        patch_scores: Float[Tensor, "b p"],
        masks: Float[Tensor, "b s s"] | None,
        labels: Int[Tensor, " b"],
        categories: Sequence[str],
        keys: Sequence[str] | None = None,
    ) -> None:
        """Add images of any categories; one whose key was added before, by any process, counts once.

        `masks` holds 0 and 1, and is None where the target has no masks. `labels` are 0 normal, 1 anomalous.

        Raises ScoresError if scores are not finite, naming the categories, ValueError if sizes do not fit.
        """
        n = len(image_scores)
        if len(categories) != n or (keys is not None and len(keys) != n):
            found = f"{len(categories)} categories" + ("" if keys is None else f" and {len(keys)} keys")
            raise ValueError(f"{self.target}: {n} images came with {found}. Each image needs one.")
        image_scores, patch_scores = image_scores.detach().cpu(), patch_scores.detach().cpu()
        finite = image_scores.isfinite() & patch_scores.isfinite().all(dim=1)
        if not finite.all():
            where = sorted({category for category, ok in zip(categories, finite.tolist(), strict=True) if not ok})
            raise ScoresError(
                f"{self.target}: scores that are not finite in {', '.join(where)} ({int((~finite).sum())} of {n} "
                "images of a batch). They cannot be ranked: look at the model's precision and at its weights."
            )
        self._check_size("patches", patch_scores.shape[1])
        if masks is not None:
            self._check_size("mask rows", masks.shape[1])
            self._append("masks", torch.from_numpy(pack_masks((masks.detach().cpu() > 0.5).numpy())))
        self._append("masked", torch.full((n,), masks is not None))
        self._append("image_scores", image_scores)
        self._append("patch_scores", patch_scores)
        self._append("anomalous", labels.cpu() == 1)
        self._append("keys", torch.tensor([_UNKEYED] * n if keys is None else [_hash(key) for key in keys]))
        names = "".join(json.dumps(category) + "\n" for category in categories).encode()
        self._append("categories", torch.tensor(list(names)))

    def images(self) -> StoredImages:
        """All images of all processes, in the order of their keys; those without a key follow as they came.

        With several processes, all must call this. Raises ValueError if there is none.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return self._stored()

    def _stored(self) -> StoredImages:
        states = {name: dim_zero_cat(getattr(self, name)).reshape(-1) for name in _STATES}
        kept, masked = _distinct(states["keys"].numpy()), states["masked"].numpy()
        if kept.size == 0:
            raise ValueError(f"{self.target}: no image was evaluated, so there are no metrics. Is the test set empty?")
        return StoredImages(
            image_scores=states["image_scores"].numpy(),
            patch_scores=states["patch_scores"].view(masked.size, -1),
            masks=states["masks"].numpy().reshape((masked.sum(), -1) if masked.any() else (0, 0)),
            masked=masked,
            anomalous=states["anomalous"].numpy(),
            # Objects, as texts of NumPy's own lose zeros at their end.
            categories=np.array(list(map(json.loads, bytes(states["categories"].numpy()).splitlines())), dtype=object),
        ).only(kept)

    def _append(self, name: str, values: Tensor) -> None:
        getattr(self, name).append(values.to(_STATES[name]).reshape(-1))

    def _check_size(self, what: str, size: int) -> None:
        if self._sizes.setdefault(what, size) != size:
            raise ValueError(
                f"{self.target}: a batch with {size} {what}, after batches with {self._sizes[what]}. "
                "All images of a target must have one size."
            )


def _distinct(keys: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " kept"]:
    """Positions of one image per key, ascending by key, then of all images without a key."""
    unique, first = np.unique(keys, return_index=True)
    return np.concatenate((first[unique != _UNKEYED], np.flatnonzero(keys == _UNKEYED)))


def _hash(key: str) -> int:
    """63 bits of a key: among 10,000 images, two collide with a probability of 5e-12."""
    return int.from_bytes(hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "big") >> 1


def _gather(state: Tensor, group: dist.ProcessGroup | None = None) -> list[Tensor]:
    """The state of every process, on the CPU. NCCL alone cannot send what lies there, so it goes by way of the GPU."""
    device = "cpu" if "cpu:" in dist.get_backend_config(group) else "cuda"
    return [part.cpu() for part in gather_all_tensors(state.to(device), group)]
