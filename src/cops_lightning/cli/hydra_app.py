"""A console command of Hydra's: help that teaches, errors of one sentence, and nothing imported before it is needed."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cops_lightning.config.help import groups, help_lines, known_settings
from cops_lightning.config.options import options_of, register
from cops_lightning.config.settings import Settings
from cops_lightning.core.errors import CopsError, described, listed, not_installed, of_system
from cops_lightning.core.files import conf_folder
from cops_lightning.core.names import file_name
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.core.reporting import outlive_readers, print_any_name

# Options of Hydra's that come with packages of their own, and the extras of ours that bring these.
EXTRAS = {
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/sweeper/optuna": "optuna",
}


@dataclass(frozen=True)
class HydraApp:
    """A command whose arguments are Hydra's overrides.

    Args:
        name: of the file in conf/ that lists what there is to configure.
        recipe: the function of `cli.recipes` that finds what one job is made of.
        settings: the keys at the top of the configuration.
        header: the beginning of --help: what the command does, and examples.
    """

    name: str
    recipe: str
    settings: type[Settings]
    header: str

    def run(self, arguments: Sequence[str]) -> int:
        """Run the command with these arguments, as part of another; returns the exit code."""
        own = sys.argv
        sys.argv = [f"cops-{self.name}", *arguments]  # which Hydra reads
        try:
            self()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.argv = own
        return 0

    def __call__(self) -> Any:
        """Run the command of `sys.argv`. Errors that stem from the input end with one sentence and exit code 1."""
        print_any_name()
        arguments = sys.argv[1:]
        register()
        sys.path += [str(Path(folder).absolute()) for folder in config_folders(arguments)]
        if any(argument in ("--help", "-h") for argument in arguments):
            with one_sentence():
                overrides = [word for word in arguments if not word.startswith("-") and "=" in word]
                return print(self.header, *help_lines(self.name, overrides), sep="\n")
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us as they are
        command = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=self.name)(self._job)
        outlive_readers()
        with one_sentence():
            require_options(arguments)
            try:
                return command()
            except RuntimeError as error:
                from cops_lightning.runs.sweeps import Sweep

                if not Sweep.current.jobs:
                    raise
                Sweep.current.show_cut_off()
                raise CopsError(f"The sweep ended before its jobs did: {described(error)}") from error

    def _job(self, config: DictConfig) -> float | None:
        with one_sentence():  # within, as Hydra would add a sentence of its own
            # Imported where used: they take seconds, and --help and shell completion need none of them.
            from cops_lightning.cli import recipes
            from cops_lightning.runs.jobs import launch

            return launch(config, getattr(recipes, self.recipe), recipes.work, self.settings)


def _job_name(*, _root_: DictConfig) -> str:
    from cops_lightning.runs.identity import job_name

    return job_name(_root_)


# On import, for the processes of launchers too.
OmegaConf.register_new_resolver("job_name", _job_name, replace=True)
OmegaConf.register_new_resolver("file_name", lambda name: file_name(str(name)), replace=True)


def config_folders(arguments: list[str]) -> list[str]:
    """The folders that --config-dir and --config-path name."""
    found = []
    for at, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in ("--config-dir", "-cd", "--config-path", "-cp"):
            found += [value] if equals else arguments[at + 1 : at + 2]
    return found


def require_options(arguments: list[str]) -> None:
    """Refuse GROUP=null, on which Hydra ends with a traceback."""
    for argument in arguments:
        group, _, value = argument.partition("=")
        if value == "null" and group in groups():
            raise CopsError(f"{argument} is no option of {group}; it has {listed(options_of(group), 30)}.")


@contextmanager
def one_sentence() -> Iterator[None]:
    """An error that stems from the input ends the program with its one sentence and exit code 1."""
    try:
        yield
    except (CopsError, HydraException, OmegaConfBaseException, OSError) as error:
        if isinstance(error, HydraException | OmegaConfBaseException):  # some of Hydra's are errors of the system too
            sentence = explained(error)
        else:
            sentence = of_system(error) if isinstance(error, OSError) else str(error)
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(1) from None


def explained(error: Exception) -> str:
    """What Hydra says of a command line or a file that it cannot compose, in a sentence with the nearest known name."""
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} is no KEY=VALUE. A value that holds other characters than letters, digits and _-./: "
            "needs quotes of its own within those of the shell, such as \"targets=['data/a=b']\"."
        )
    if isinstance(error, MissingConfigException) and error.options:
        if extra := EXTRAS.get(str(error.missing_cfg_file)):
            return not_installed(str(error.missing_cfg_file), f"cops_lightning[{extra}]")
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        near = did_you_mean(option, error.options)
        return f"{group} has no option {option}.{near or f' It has {listed(error.options, 30)}.'}"
    said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    unknown = re.search(r"Could not override '([^']+)'", said)
    if unknown is None and "is not in struct" in said:
        unknown = re.search(r"full_key: (\S+)", said) or re.search(r"Key '([^']+)'", said)
    if unknown is None:
        return said
    asked, known = unknown[1], [*groups(), *known_settings()]
    same = [name for name in known if name.rsplit(".", 1)[-1] == asked.rsplit(".", 1)[-1]]
    near = f" Did you mean '{same[0]}'?" if same else did_you_mean(asked, known, cutoff=0.5)
    return f"There is no setting {asked}.{near or ' See --help for all settings.'}"
