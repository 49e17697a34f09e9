"""Hydra launcher for Ray: the jobs of a sweep on one machine, or on the machines of a cluster.

hydra-ray-launcher would do, but it demands versions that current ones of our dependencies exclude.
"""

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from cops_lightning.core.errors import ConfigError, not_installed

log = logging.getLogger(__name__)


class RayLauncher(Launcher):
    """Every job is a Ray task in a process of its own.

    `address` is that of a running cluster; None starts Ray on this machine for the duration of the sweep.
    `cpus_per_job` and `gpus_per_job` are what Ray sets aside for a job; parts of a GPU let jobs share it.
    """

    def __init__(self, address: str | None = None, cpus_per_job: float = 1, gpus_per_job: float = 0) -> None:
        self.address, self.cpus_per_job, self.gpus_per_job = address, cpus_per_job, gpus_per_job
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before the first launch. Raises ConfigError where Ray is not installed."""
        if find_spec("ray") is None:
            raise ConfigError(not_installed("hydra/launcher=ray", "cops_lightning[ray]"))
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run one job per list of overrides and wait for all."""
        # Imported where used: Hydra imports this module at every start.
        import ray

        assert self.config is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        sweep_dir = Path(str(self.config.hydra.sweep.dir)).absolute()
        sweep_dir.mkdir(parents=True, exist_ok=True)
        log.info("Ray is launching %d jobs, sweep output dir: %s", len(job_overrides), sweep_dir)
        ray.init(address=self.address, include_dashboard=None if self.address else False, log_to_driver=True)
        try:
            task = ray.remote(num_cpus=self.cpus_per_job, num_gpus=self.gpus_per_job, max_calls=1)(_job)
            shared = ray.put((self.hydra_context, self.config, self.task_function, Singleton.get_state()))
            jobs = []
            for number, overrides in enumerate(job_overrides, initial_job_idx):
                log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
                jobs.append(task.remote(shared, list(overrides), number, os.getcwd()))
            returned: list[JobReturn] = ray.get(jobs)
            return returned
        finally:
            ray.shutdown()


def _job(shared: tuple[Any, ...], overrides: list[str], number: int, folder: str) -> JobReturn:
    """One job, in the process that Ray gives it."""
    hydra_context, config, task_function, singleton_state = shared
    os.chdir(folder)
    setup_globals()
    Singleton.set_state(singleton_state)
    sweep_config = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(sweep_config):
        sweep_config.hydra.job.id = sweep_config.hydra.job.num = number
    return run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=sweep_config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
