"""A detector as one graph of plain operations, from the pixels of images to their scores and maps."""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cops_lightning.clip.image_encoder import ImageEncoder
from cops_lightning.clip.request import FeatureRequest
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.types import CLIP_MEAN, CLIP_STD, Features
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.detector import Detector, FeatureDetector

# Names of the graph's input and outputs, in every format that has names.
PIXELS, SCORE, MAP, FEATURE = "pixels", "score", "map", "feature"
OUTPUTS = (SCORE, MAP, FEATURE)
# Of the example that is traced. With 1 a tracer would take the number of images for a constant.
TRACED = 2


class ExportedGraph(nn.Module):
    """`Detector.score` of images of the detector's size, in fp32, without anything that depends on a name or a device.

    Preprocessing is inside, from values of 0 to 255 on; decoding and resizing are not. Class samples are the fixed
    ones. What the prompts of all images share is computed now. Neither the graph nor a file of it holds weights that it
    does not read.

    Raises ConfigError for a detector that cannot be exported, with the reason.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        model, request, score = _exportable(detector)
        self.image_size = model.image_size
        for name, values in (("mean", CLIP_MEAN), ("std", CLIP_STD)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1))
        encoder = ImageEncoder(model.backbone.clip.visual, activation=request.activation, fused=False)
        # In a tuple, so that torch does not take all weights of the detector for weights of the graph.
        self._parts = (model, encoder, request, score)

    def forward(
        self, pixels: UInt8[Tensor, "b s s 3"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "b s s"], Float[Tensor, "b d"]]:
        """Score and map of RGB images of the detector's size, both in [0, 1], and the encoder's global feature."""
        model, encoder, request, score = self._parts
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        features = model.prepared(encoder.encode_whole(images, [request])[0])
        scores = score(features)
        return scores.image, scores.map, features.image

    @torch.no_grad()
    def traced(self) -> ExportedProgram:
        """The graph as torch.export sees it, for any number of images."""
        example = torch.zeros(TRACED, self.image_size, self.image_size, 3, dtype=torch.uint8)
        return torch.export.export(self.eval(), (example,), dynamic_shapes={PIXELS: {0: Dim("batch", min=1)}})


def _exportable(detector: Detector) -> tuple[FeatureDetector, FeatureRequest, Callable[[Features], Scores]]:
    """The detector, what it reads and how it scores that, if it can be exported with the settings that it has."""
    request = detector.request if isinstance(detector, FeatureDetector) else None
    score = detector.graph_scores() if isinstance(detector, FeatureDetector) else None
    if score is None or not isinstance(request, FeatureRequest):
        raise ConfigError(
            f"{type(detector).__name__} cannot be exported: what it computes is not one graph of an image's pixels. "
            "docs/export.md names the detectors that can."
        )
    if detector.backbone.precision != "fp32":
        raise ConfigError(
            f"The image encoder runs in {detector.backbone.precision}; a file is exported from fp32. Load the detector "
            "with backbone.precision=fp32; who runs the file chooses its precision."
        )
    assert isinstance(detector, FeatureDetector)
    return detector, request, score
