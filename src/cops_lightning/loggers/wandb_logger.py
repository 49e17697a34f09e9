"""Weights & Biases: each run of ours is one of theirs, online or in files for `wandb sync`."""

import inspect
import os
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch import Tensor, nn

from cops_lightning.core.errors import described
from cops_lightning.core.reporting import warn
from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.run_info import RunInfo
from cops_lightning.loggers.run_logger import RunLogger, outcome
from cops_lightning.loggers.wandb_history import Row, RowLog

# The step of the optimiser is the axis of every chart.
STEP = "trainer/global_step"
PROJECT = "cops_lightning"
LONGEST_TAG = 64
# W&B's own servers, under which its login keeps the key.
SERVERS = ("https://api.forge.coreweave.com", "https://api.wandb.ai")
KEYS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
OLD_MODES = {"run": "online", "dryrun": "offline"}
# The variables of W&B that say what a run is filed under, by the argument of wandb.init that goes before each.
VARIABLES = {
    "project": "WANDB_PROJECT",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "tags": "WANDB_TAGS",
    "dir": "WANDB_DIR",
    "id": "WANDB_RUN_ID",
    "resume": "WANDB_RESUME",
}
# The console belongs to progress and results. What is not sent 300 s after the end of a run waits on disk: a sweep must
# not hang on it.
SETTINGS: Mapping[str, Any] = {
    "console": "off",
    "silent": True,
    "finish_timeout": 300,
    "finish_timeout_raises": True,
}


class _Signature:
    """The arguments of the logger and those of wandb.init, for whoever checks a configuration by `inspect.signature`.

    W&B is imported when it is asked for.
    """

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        from wandb.sdk import wandb_init

        own = list(inspect.signature(owner.__init__).parameters.values())[1:-1]  # type: ignore[misc]
        named = {parameter.name for parameter in own}
        theirs = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=_resolved(parameter, vars(wandb_init)))
            for parameter in inspect.signature(wandb_init.init).parameters.values()
            if parameter.name not in {*named, "anonymous"}  # which W&B asks not to set any more
        ]
        return inspect.Signature([*own, *theirs])


def _resolved(parameter: inspect.Parameter, names: dict[str, Any]) -> Any:
    """The type of a parameter that is annotated as text; Any where that names what is only known to type checkers."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return eval(parameter.annotation, names)
    except (NameError, TypeError):
        return Any


class WandbLogger(RunLogger, LightningWandbLogger):
    """A W&B run: scalars, tables, charts of curves, overlays, checkpoints, and how the run ended.

    In a run that was started it is kept offline where there is no login, and where the server cannot be reached or
    refuses the key. What is given here wins over W&B's environment variables (WANDB_PROJECT, WANDB_TAGS, ...), and
    these over what the run would be filed under. A run that W&B's agent starts has the agent's identity; the jobs of a
    multirun, of which it may start one too, have their own.

    Each attempt at a run writes a file of its own. One that goes on repeats what the earlier ones logged before it, as
    far as the server does not have it, and marks their files as sent: each step is in W&B once, in order, whichever
    attempt was online and whenever `wandb sync` is called. The repeated rows are those of `log_metrics`.

    Args:
        name: What to call the run.
        save_dir: Where W&B makes its folder wandb/.
        project: The project.
        offline: Whether to keep the run on disk.
        log_model: Whether to send checkpoints while they are written, as Lightning's logger does. The final ones are
            always sent.
        prefix: Put before every name.
        checkpoint_name: What to call the checkpoints of `log_model`.
        add_file_policy: Whether those are copied aside.
        watch: What to log of the trained parameters: histograms of gradients, of parameters, or of both.
        watch_every: After how many batches.
        dir: The same as `save_dir`, by the name that wandb.init has for it.
        init: Any argument of wandb.init.
    """

    title = "Weights & Biases"
    shows_curves = True
    __signature__ = _Signature()

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | Path | None = None,
        project: str | None = None,
        offline: bool = False,
        log_model: Literal["all"] | bool = False,
        prefix: str = "",
        checkpoint_name: str | None = None,
        add_file_policy: Literal["mutable", "immutable"] = "mutable",
        watch: Literal["gradients", "parameters", "all"] | None = None,
        watch_every: int = 100,
        dir: str | Path | None = None,
        **init: Any,
    ) -> None:
        folder = dir or save_dir
        self._given = {"name": name, "project": project, "dir": folder, **init}
        self._watch, self._watch_every = watch, watch_every
        self._best: dict[ModelCheckpoint, Path] = {}
        self._present: set[tuple[int, frozenset[str]]] = set()
        super().__init__(
            name=name,
            save_dir=folder,  # type: ignore[arg-type]  # W&B's own default where it is None
            offline=offline,
            project=project,
            log_model=log_model,
            prefix=prefix,
            checkpoint_name=checkpoint_name,
            add_file_policy=add_file_policy,
            **init,
        )
        del self._wandb_init["anonymous"]  # W&B warns of it, whatever its value
        if offline:
            # Lightning sets an environment variable, which W&B reads once per process.
            self._wandb_init["mode"] = "offline"

    @rank_zero_only
    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """Watch what is about to be trained, if that is asked for."""
        if self._watch is not None:
            parts = list(trained_parts(model))
            self.experiment.watch(parts, log=self._watch, log_freq=self._watch_every, log_graph=False)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Remember which checkpoint is the best by the metric that a callback monitors."""
        if checkpoint_callback.monitor is not None:
            self._best[checkpoint_callback] = Path(checkpoint_callback.best_model_path)
        super().after_save_checkpoint(checkpoint_callback)

    def _start(self) -> None:
        import wandb

        assert self.run is not None
        # In the run folder, from which a run goes on, also where W&B writes elsewhere.
        self._rows = RowLog(self.run.folder / "wandb" / f"rows-{self.run.identity.run_id}.jsonl")
        self._earlier, self._present, self._best = self._rows.read(), set(), {}
        filed, given = _filed(self.run), {key: value for key, value in self._given.items() if value is not None}
        arguments = filed | given
        arguments["config"] = _merged(filed["config"], given.get("config"))
        settings = {key: value for key, value in SETTINGS.items() if f"WANDB_{key.upper()}" not in os.environ}
        arguments["settings"] = _merged(settings, given.get("settings"))
        if self.run.one_of_many and isinstance(arguments["settings"], dict):
            # W&B gives every run of a process the identity that an agent named, if it knows of the agent's sweep.
            wandb.setup().settings.sweep_id = None
            arguments["settings"].setdefault("sweep_id", os.environ.get("WANDB_SWEEP_ID"))
        said = os.environ.get("WANDB_MODE", "").lower()
        asked = given.get("mode") or ("offline" if self._offline else OLD_MODES.get(said, said))
        mode = arguments["mode"] = asked or ("online" if logged_in() else "offline")
        if mode == "online" and self._earlier and not _is_agents(self.run) and "WANDB_RESUME" not in os.environ:
            arguments.setdefault("resume", "allow")
        folder = arguments.get("dir") or os.environ.get("WANDB_DIR", ".")
        later = f"send it later by: wandb sync {Path(folder) / 'wandb'}/offline-*"
        try:
            self._experiment = wandb.init(**arguments)
        except Exception as error:
            if mode != "online":
                raise
            wandb.teardown()
            warn(f"W&B did not take the run ({described(error)}), so it is kept offline; {later}", error)
            arguments.pop("resume", None)
            self._experiment = wandb.init(**arguments | {"mode": "offline"})
        else:
            if mode == "offline" and not asked:
                warn(f"There is no login for W&B, so the run is kept offline; {later}")
        self._experiment.define_metric(STEP)
        self._experiment.define_metric("*", step_metric=STEP, step_sync=True)

    def _go_on_at(self, step: int) -> None:
        run = self.experiment
        sent = [row for row in self._earlier if row.position < run.starting_step]
        self._present = {(row.step, frozenset(row.values)) for row in sent if row.step >= step}
        missing = [row for row in self._earlier if row.position >= run.starting_step and row.step < step and row.values]
        repeated = [replace(row, position=run.starting_step + i) for i, row in enumerate(missing)]
        self._rows.replace([*sent, *repeated])
        for row in repeated:
            run.log({**row.values, STEP: row.step, "_timestamp": row.time})
        for folder in Path(run.settings.sync_dir).parent.glob(f"offline-run-*-{run.id}"):
            if folder != Path(run.settings.sync_dir):
                (folder / f"run-{run.id}.wandb.synced").touch()

    def _log_values(self, values: Mapping[str, float], step: int) -> None:
        if self._prefix:
            values = {f"{self._prefix}{self.LOGGER_JOIN_CHAR}{name}": value for name, value in values.items()}
        if (step, frozenset(values)) not in self._present:
            run = self.experiment
            self._rows.append(Row(run.step, step, time.time(), values))
            run.log({**values, STEP: step})

    def _log_evaluation(self, evaluation: Evaluation) -> None:
        """Metrics as summary and as a table, curves as charts, heat maps as overlays, and contact sheets."""
        import wandb

        from cops_lightning.loggers.wandb_media import charts, overlay

        super()._log_evaluation(evaluation)
        run, step = self.experiment, self._last_step
        run.summary.update(evaluation.scalars())
        if step is not None:
            if (step, frozenset()) in self._present:
                return
            self._rows.append(Row(run.step, step, time.time(), {}))
        columns, lines = evaluation.table()
        shown: dict[str, Any] = {
            "results": wandb.Table(columns=columns, data=lines),
            **charts(evaluation.curves),
        }
        for target, pictures in evaluation.pictures().items():
            if "contact_sheet" in pictures:
                shown[f"{target}/contact_sheet"] = wandb.Image(str(pictures.pop("contact_sheet")))
            if target not in evaluation.examples:
                shown[f"{target}/heatmaps"] = [wandb.Image(str(path)) for path in pictures.values()]
        for target, examples in evaluation.examples.items():
            shown[f"{target}/heatmaps"] = [overlay(example, evaluation.scale) for example in examples]
        run.log(shown if step is None else shown | {STEP: step})

    def _finish(self, error: BaseException | None) -> None:
        """How the run ended, its log, where it failed, and its final checkpoints."""
        assert self.run is not None
        run = self.experiment
        if self._last_step is None:
            self._go_on_at(0)
        ending: dict[str, Any] = {
            "status": outcome(error),
            "duration_seconds": self.run.duration_seconds or round(time.monotonic() - self._began, 3),
        }
        if error is not None:
            ending["error"] = described(error)
        elif run.resumed:
            ending["error"] = ""  # of an attempt before
        run.summary.update(ending)
        run.config.update({"provenance": self.run.provenance()}, allow_val_change=True)
        files = {"run.log": _read(self.run.folder / "run.log")}
        if error is not None:
            # One of a run that is sent after its end was never raised.
            written = None if error.__traceback__ else _read(self.run.folder / "traceback.txt")
            files["traceback.txt"] = written or "".join(traceback.format_exception(error)).encode()
        for name, content in files.items():
            if content is not None:
                (Path(run.dir) / name).write_bytes(content)
                run.save(str(Path(run.dir) / name), base_path=run.dir, policy="now")
        if error is None:
            self._log_checkpoints(sorted(path for path in self.run.folder.glob("checkpoints/*") if path.is_file()))

    def _log_checkpoints(self, files: list[Path]) -> None:
        """The last checkpoint and, where a callback monitors a metric, the best one as another version."""
        best = [path for path in files if path.resolve() in {found.resolve() for found in self._best.values()}]
        last = [path for path in files if path not in best]
        if best and last:
            self._log_artifact(best, ["best"])
            self._log_artifact(last, ["last", "latest"])
        elif files:
            self._log_artifact(files, ["best", "last", "latest"])

    def _log_artifact(self, files: Iterable[Path], aliases: list[str]) -> None:
        import wandb

        assert self.run is not None
        run = self.experiment
        artifact = wandb.Artifact(f"checkpoints-{run.id}", "model", metadata=dict(self.run.config))
        for path in files:
            # Not copied aside: the run folder keeps what is still to be sent.
            artifact.add_file(str(path), policy="immutable")
        run.log_artifact(artifact, aliases=aliases)

    def _close(self, error: BaseException | None) -> None:
        """Finish the run, so that the next one of a sweep is another."""
        run, self._experiment = self._experiment, None
        if run is not None:
            run.finish(exit_code=int(error is not None))


def _filed(run: RunInfo) -> dict[str, Any]:
    """The arguments of wandb.init that the run itself gives, but for those that the environment gives."""
    of = run.identity
    tags = [f"auxiliary:{of.auxiliary}", *(f"target:{name}" for name in run.targets), f"backbone:{run.backbone}"]
    filed: dict[str, Any] = {
        "project": PROJECT,
        "name": run.name,
        "group": of.study,
        "job_type": of.variant if run.kind == "run" else run.kind,
        "tags": [tag[:LONGEST_TAG] for tag in tags],
        "config": {**run.config, "method": of.method, "provenance": run.provenance()},
        "dir": run.folder,
        "id": of.run_id,
    }
    said = {key for key, variable in VARIABLES.items() if os.environ.get(variable)}
    said = said - {"id"} if run.one_of_many else said | ({"id"} if _is_agents(run) else set())
    return {key: value for key, value in filed.items() if key not in said}


def _is_agents(run: RunInfo) -> bool:
    """Whether W&B's agent of a sweep started this very run, whose identity W&B then reads itself."""
    return "WANDB_SWEEP_ID" in os.environ and not run.one_of_many


def _merged(ours: Mapping[str, Any], given: Any) -> Any:
    """Ours and what was given, which wins."""
    return {**ours, **(given or {})} if given is None or isinstance(given, Mapping) else given


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def trained_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The largest parts of a module of which everything is trained: a frozen backbone is no news."""
    trained = [parameter.requires_grad for parameter in module.parameters()]
    if trained and all(trained):
        yield module
    elif any(trained):
        for child in module.children():
            yield from trained_parts(child)


def logged_in() -> bool:
    """Whether W&B could log in without asking: by a key in the environment, or the entry of its login in netrc."""
    from requests.utils import get_netrc_auth  # which W&B brings

    server = os.environ.get("WANDB_BASE_URL")
    servers = SERVERS if server is None else (server,)
    return any(map(os.environ.get, KEYS)) or any(get_netrc_auth(server) for server in servers)
