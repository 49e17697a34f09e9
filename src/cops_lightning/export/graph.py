"""A detector as one graph of plain operations, from the pixels of images to their scores and maps."""

from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from cops_lightning.clip.image_encoder import ImageEncoder
from cops_lightning.clip.request import FeatureRequest
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.seeding import FIXED
from cops_lightning.core.types import CLIP_MEAN, CLIP_STD, Features
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.anomalyclip import AnomalyCLIP
from cops_lightning.models.baselines.clip import PlainClip
from cops_lightning.models.baselines.wording import OBJECT
from cops_lightning.models.cops import CoPS
from cops_lightning.models.detector import Detector, FeatureDetector

# Names of the graph's input and outputs, in every format that has names.
PIXELS, SCORE, MAP = "pixels", "score", "map"
# Of the example that is traced. With 1 a tracer would take the number of images for a constant.
TRACED = 2

Scoring = Callable[[Features], Scores]


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
        model = _exportable(detector)
        self.image_size = model.image_size
        for name, values in (("mean", CLIP_MEAN), ("std", CLIP_STD)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1))
        request = model.request
        assert isinstance(request, FeatureRequest)
        encoder = ImageEncoder(model.backbone.clip.visual, activation=request.activation, fused=False)
        # In a tuple, so that torch does not take all weights of the detector for weights of the graph.
        self._parts = (model, encoder, request, _scoring(model))

    def forward(self, pixels: UInt8[Tensor, "b s s 3"]) -> tuple[Float[Tensor, " b"], Float[Tensor, "b s s"]]:
        """Score and map of RGB images of the detector's size, both in [0, 1]."""
        model, encoder, request, score = self._parts
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        scores = score(model.prepared(encoder.encode_whole(images, [request])[0]))
        return scores.image, scores.map

    @torch.no_grad()
    def traced(self) -> ExportedProgram:
        """The graph as torch.export sees it, for any number of images."""
        example = torch.zeros(TRACED, self.image_size, self.image_size, 3, dtype=torch.uint8)
        return torch.export.export(self.eval(), (example,), dynamic_shapes={PIXELS: {0: Dim("batch", min=1)}})


def _exportable(detector: Detector) -> FeatureDetector:
    """The detector, if it is one of those that can be exported, with settings that can."""
    if not isinstance(detector, CoPS | AnomalyCLIP | PlainClip):
        raise ConfigError(
            f"{type(detector).__name__} cannot be exported: what it computes is not one graph of an image's pixels. "
            "CoPS (with it model=static_prompts and its ablations), AnomalyCLIP and clip can."
        )
    if detector.backbone.precision != "fp32":
        raise ConfigError(
            f"The image encoder runs in {detector.backbone.precision}; a file is exported from fp32. Load the detector "
            "with backbone.precision=fp32; who runs the file chooses its precision."
        )
    if isinstance(detector, CoPS) and detector.readings.distance_range == "batch":
        raise ConfigError(
            "With readings.distance_range=batch a score depends on the other images of its batch, so a file would "
            "score an image differently in every batch. Export with readings.distance_range=image."
        )
    return detector


@torch.no_grad()
def _scoring(model: FeatureDetector) -> Scoring:
    """Scores from features, with all that depends on no image computed ahead."""
    if isinstance(model, PlainClip):
        sentences = model.prompts([OBJECT])
        return lambda features: model.scores_with(features, sentences.expand(features.image.shape[0], -1, -1))
    if not isinstance(model, CoPS):
        assert isinstance(model, AnomalyCLIP)
        model.text_once()  # before tracing, so that the prompts are a constant of the graph
        return lambda features: model.score_features(features, names=[FIXED])
    latents = None if model.classes is None else model.draw_latents([FIXED])
    if model.states is None and latents is None:
        text = model.text_features(None, None)
        return lambda features: model.score_drawn(features, None, text)
    if latents is None:
        return lambda features: model.score_drawn(features, None)
    return lambda features: model.score_drawn(features, latents.expand(features.image.shape[0], -1, -1))
