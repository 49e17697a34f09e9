"""What callbacks that write into a run folder share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer

from cops_lightning.core.errors import described
from cops_lightning.core.hashes import settings_hash
from cops_lightning.core.reporting import warn
from cops_lightning.loggers.run_info import RunInfo
from cops_lightning.models.module import CopsModule
from cops_lightning.report.tables import NOTHING, Run


class RunCallback:
    """A callback that knows which run it serves; outside our commands what its module says of itself.

    `folder` is set by its constructor: where it writes, None for the trainer's root folder.
    """

    folder: str | Path | None = None
    run: Run | None = None

    def start(self, run: RunInfo) -> None:
        """The run that begins."""
        self.run = run.identity

    def run_of(self, module: CopsModule) -> Run:
        """The run that began. In a notebook none did: its method is then named by the settings of the module."""
        if self.run is not None:
            return self.run
        saved, seed = module.saved, module.model.seed
        model = {key: value for key, value in (saved.model_node or {}).items() if key != "seed"}
        settings = saved.run.get("method_settings") or {
            **{key: value for key, value in module.hparams.items() if key not in ("model", "backbone")},
            "model": model or type(module.model).__qualname__,
            "backbone": saved.fingerprint,
            "trained_on": saved.trained_on,
        }
        method = settings_hash(settings)
        auxiliary = saved.trained_on[0].partition("/")[0] if saved.trained_on else NOTHING
        variant = str(saved.run.get("variant") or type(module.model).__name__)
        return Run(settings_hash([method, seed]), method, "notebook", variant, seed, auxiliary)

    def folder_of(self, trainer: Trainer) -> Path:
        """Where to write."""
        return Path(trainer.default_root_dir if self.folder is None else self.folder)


@contextmanager
def decorating(what: str) -> Iterator[None]:
    """A block that makes what nobody's numbers depend on: where it fails, the user is told, and the run goes on."""
    try:
        yield
    except Exception as error:
        warn(f"{what} could not be made ({described(error)}). The numbers are not affected.", error)
