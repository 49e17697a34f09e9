"""Checkpoints: trained weights only, with the settings they were trained under and the hash of the frozen backbone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from cops_lightning.clip.frozen_clip import BackboneRecord
from cops_lightning.clip.weights import load_backbone
from cops_lightning.config.check import TARGET, locate
from cops_lightning.core.errors import CheckpointError, ConfigError, quoted
from cops_lightning.core.tensor_files import names_of, read_tensors, require_tensors, write_tensors
from cops_lightning.core.types import StateDict
from cops_lightning.models.detector import Detector, TrainableDetector
from cops_lightning.models.released import METHODS, method_of

HYPER_PARAMETERS = "hyper_parameters"  # Lightning's key: what it calls the constructor with
PAST_PARAMETERS = ("hparams", "module_arguments")  # its keys of former versions, which it still reads
SAVED = "saved"
DRAWS = "fixed_draws"  # those of `TrainableDetector.fixed_draws`
OWN = "cops_lightning."


class RunSaid(TypedDict, total=False):
    """What a checkpoint says of the run of cops-train that it is of."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    seed: int
    variant: str
    method_settings: dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says about itself beyond its weights.

    Args:
        backbone: name of the frozen CLIP.
        fingerprint: hash of the weights of the frozen CLIP.
        trained_on: every "dataset/category" whose images were trained on.
        trained_images: hashes of the content of these images.
        model_node: the detector's class and arguments; None where it was made by hand.
        backbone_node: the same of the backbone.
        run: of a run of cops-train, its seed, variant, and the settings that decide its numbers.
    """

    backbone: str = ""
    fingerprint: str = ""
    trained_on: tuple[str, ...] = ()
    trained_images: tuple[str, ...] = ()
    model_node: Mapping[str, Any] | None = None
    backbone_node: Mapping[str, Any] | None = None
    run: RunSaid = field(default_factory=lambda: RunSaid())

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Saved":
        """From what `as_plain` gave. Raises CheckpointError where a part is of another type."""
        try:
            return TypeAdapter(cls).validate_python(dict(content))
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            raise CheckpointError(
                f"The checkpoint's {'.'.join(map(str, wrong['loc']))} is {quoted(wrong['input'])} ({wrong['msg']}). "
                "It is damaged, or of another version; train anew."
            ) from None

    @classmethod
    def of_checkpoint(cls, content: Mapping[str, Any], path: Path) -> "Saved":
        """That of a checkpoint's content. Raises CheckpointError where it is none of this library's."""
        parameters = content.get(HYPER_PARAMETERS)
        saved = parameters.get(SAVED) if isinstance(parameters, Mapping) else None
        if not isinstance(saved, Mapping) or not isinstance(content.get("state_dict"), Mapping):
            raise CheckpointError(
                f"{path} is no checkpoint: its top-level keys are {names_of(content)}. "
                f"Expected one of cops-train's checkpoints/*.ckpt, or a .pth that {' or '.join(METHODS.values())} "
                "published."
            )
        return cls.from_plain(saved)

    def as_plain(self) -> dict[str, Any]:
        """Plain values, so that the checkpoint can be read with weights_only."""
        lists = {"trained_on": list(self.trained_on), "trained_images": list(self.trained_images)}
        return {**asdict(self), **lists, "run": dict(self.run)}

    def with_nodes(self, model: Mapping[str, Any], backbone: Mapping[str, Any] | None) -> "Saved":
        """The same with these nodes."""
        return replace(self, model_node=dict(model), backbone_node=None if backbone is None else dict(backbone))

    def own_model(self) -> Mapping[str, Any]:
        """The detector's node. Raises CheckpointError where there is none, or it names what is not of this library."""
        return _own(self.model_node, "model", _is_detector, "CopsModule.load_from_checkpoint(path, model=...)")

    def own_backbone(self) -> Mapping[str, Any]:
        """The backbone's node; see `own_model`."""
        return _own(self.backbone_node, "backbone", _is_backbone, "CopsModule.load_from_checkpoint(path, backbone=...)")

    def require_backbone(self, record: BackboneRecord) -> None:
        """Raise CheckpointError unless the frozen weights are those that the checkpoint was trained on."""
        if self.fingerprint and record.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"The checkpoint was trained on the backbone {self.backbone} with weights {self.fingerprint[:12]}; the "
                f"one here is {record.name} ({record.origin}) with weights {record.fingerprint[:12]}. Load the same "
                "CLIP, by backbone=NAME and backbone.weights=FILE."
            )


def _own(node: Mapping[str, Any] | None, what: str, fits: Callable[[Any], bool], way_out: str) -> Mapping[str, Any]:
    """The node, if it names nothing but what it may: a file decides nothing of what is run."""
    if node is None:
        raise CheckpointError(f"The checkpoint does not say what its {what} is. Give it by {way_out}.")
    for name, allowed in [(node.get(TARGET), fits), *((name, _is_setting) for name in _named_within(node))]:
        if not allowed(_located(name, what)):
            raise CheckpointError(
                f"The checkpoint's {what} names {name!r}, which is no {what} of this library, and nothing else that a "
                f"checkpoint names is run. If you trust it, give it by {way_out}, or by {what}=NAME in a command."
            )
    return node


def _named_within(value: Any, top: bool = True) -> Iterator[Any]:
    """What the nodes within a node name, and texts that would become something else once it is built."""
    if isinstance(value, Mapping):
        if TARGET in value and not top:
            yield value[TARGET]
        for inner in value.values():
            yield from _named_within(inner, top=False)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _named_within(inner, top=False)
    elif isinstance(value, str) and "${" in value:
        yield value


def _located(name: Any, what: str) -> Any:
    """What a dotted name means, None for a name outside this library: importing it would run it."""
    if not isinstance(name, str) or not name.startswith(OWN) or "${" in name:
        return None
    try:
        found = locate(name, what)
    except ConfigError:
        return None
    # Where it is defined decides: a dotted name may lead through one module into any other.
    return found if getattr(found, "__module__", "").startswith(OWN) else None


def _is_detector(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Detector)


def _is_backbone(found: Any) -> bool:
    return found is load_backbone


def _is_setting(found: Any) -> bool:
    """Values without behaviour: the parts of a model's settings."""
    return isinstance(found, type) and is_dataclass(found)


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights under their released names, of a method that conf/model has by this name.

    For a file in the released format `saved` is None and `weights` are empty: its method reads it by `load_released`.
    `method` is "" for a model that only the checkpoint itself names. `draws` are those that all images share.
    """

    path: Path
    weights: StateDict
    saved: Saved | None
    method: str = ""
    draws: StateDict = field(default_factory=dict)

    def fill(self, model: TrainableDetector) -> None:
        """Give a detector its weights. Raises CheckpointError where they do not fit; then nothing was loaded."""
        if self.saved is None:
            model.load_released(self.path)
        else:
            model.load_trained(self.weights)
            model.load_fixed_draws(self.draws)


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that a killed run leaves whole: the last one stays until the next is complete.

    Lightning's own are moved from the folder of temporary files, which copies where that is another file system, and
    read without a look at their checksums.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path` in one step."""
        write_tensors(Path(path), checkpoint)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """The content of `path`, on the CPU. Raises CheckpointError unless it is what was written."""
        return read_tensors(Path(path), CheckpointError)


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint that was saved while training here, or one in the authors' released format.

    Raises CheckpointError for anything else, saying what the file holds.
    """
    content = read_tensors(path, CheckpointError)
    if method := method_of(content):
        return Checkpoint(path, {}, None, method)
    saved = Saved.of_checkpoint(content, path)
    further = [key for key in content[HYPER_PARAMETERS] if key != SAVED]
    further += [key for key in PAST_PARAMETERS if key in content]
    if further:  # Lightning would call the constructor with them, and it builds what they name
        raise CheckpointError(
            f"{path} holds arguments of the constructor ({', '.join(map(str, further))}), which no checkpoint of this "
            "library has, so none of it is loaded. If you trust the file, read it by torch.load and give them yourself."
        )
    weights = require_tensors(content["state_dict"], str(path), CheckpointError)
    return Checkpoint(path, weights, saved, draws=draws_of(content))


def draws_of(content: Mapping[str, Any]) -> StateDict:
    """The fixed draws in a checkpoint's content. Raises CheckpointError where they are something else."""
    return require_tensors(content.get(DRAWS, {}), "The checkpoint's fixed draws", CheckpointError)
