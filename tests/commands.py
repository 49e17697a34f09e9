"""Console commands as a user runs them: in the test's process, or in one of their own."""

import atexit
import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import absl.logging
import pytest
from hydra._internal.hydra import Hydra

# Hydra closes all handlers that there are, and absl's closes the stream that it found when it was imported, which may
# be pytest's own.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

COMMANDS = Path(sys.executable).parent
HYDRA = {"cops-train": "train", "cops-eval": "evaluate"}
HIDDEN = ("COPS_CACHE", "COPS_DATA_ROOT", "COPS_CLIP_WEIGHTS", "WANDB_API_KEY")
Result = subprocess.CompletedProcess

# Processes are forked from one that has imported what takes every command seconds, and has done nothing else.
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["cops_lightning.cli.recipes", "cops_lightning.runs.jobs", "wandb"])


@contextlib.contextmanager
def as_a_program(cwd: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A working folder and an environment for a block, after which this process is as it was before."""
    root = logging.getLogger()
    before, level, path, here = list(root.handlers), root.level, list(sys.path), Path.cwd()
    os.chdir(cwd)
    try:
        with patch.dict(os.environ, environment, clear=True), warnings.catch_warnings():
            yield
    finally:
        os.chdir(here)
        logging.captureWarnings(False)
        for handler in set(root.handlers) - set(before):
            handler.close()
        root.handlers[:], sys.path[:] = before, path
        root.setLevel(level)


def call(command: str, arguments: tuple[str, ...]) -> int:
    """The exit code of a command's function, or of that of a script."""
    if command.endswith(".py"):
        sys.path.insert(0, str(Path(command).parent))
        import_module(Path(command).stem).main()
        return 0
    name = command.removeprefix("cops-")
    main = import_module(f"cops_lightning.cli.{HYDRA.get(command, name)}").main
    try:
        if command not in HYDRA:
            return main(arguments)
        # Hydra composes everything once more to see whether hydra.mode is stated, which no command here does.
        without_mode = patch.object(Hydra, "get_mode", lambda *_, **__: None)
        with patch.object(sys, "argv", [str(COMMANDS / command), *arguments]), without_mode:
            main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """The variables that a command sees: none of the developer's own, and a cache for the tests."""
    cache = str(tmp_path_factory.mktemp("cache"))

    def variables(**more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in HIDDEN}
        return {"COLUMNS": "120", "COPS_CACHE": cache, **kept, **more}

    return variables


@pytest.fixture(scope="session")
def run_command(tmp_path_factory: pytest.TempPathFactory, environment) -> Callable[..., Result]:
    """Call a command outside the checkout, in this process, which has imported what takes seconds."""

    def run(command: str, *arguments: str, cwd: Path | None = None, **variables: str) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with (
            as_a_program(cwd or tmp_path_factory.mktemp("elsewhere"), environment(**variables)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = call(command, arguments)
        return Result((command, *arguments), code, out.getvalue(), err.getvalue())

    return run


class Started:
    """A command or a script that runs in a process and session of its own; of `Popen` what the tests use.

    It is forked, so it does not come from a console script: that each of these exists is for others to test.
    """

    def __init__(self, command: str, arguments: tuple[str, ...], cwd: Path, environment: Mapping[str, str]) -> None:
        self.args = (command, *arguments)
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        start = (command, arguments, cwd, dict(environment), self._files)
        self._process = FORKS.Process(target=_entered, args=start)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def kill_all(self) -> None:
        """End it with the processes that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> list[str]:
        """Wait for the end; returns what came on stdout and on stderr."""
        self._process.join(timeout)
        assert self.returncode is not None, f"{self.args} did not end within {timeout} s"
        said = [file.read_text(encoding="utf-8") for file in self._files]
        self._folder.cleanup()
        return said


def _entered(
    command: str, arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], files: list[Path]
) -> None:
    os.setsid()
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [command if command.endswith(".py") else str(COMMANDS / command), *arguments]
    # What the process that it was forked from removes when it ends stays, such as wandb's temporary folder.
    atexit._clear()
    weakref.finalize._registry.clear()
    atexit.register(weakref.finalize._exitfunc)
    os.environ.clear()
    os.environ.update(environment)
    os.environ.pop("WANDB_SERVICE", None)  # that of the tests' process
    tempfile.tempdir = None  # which the environment names
    os.chdir(cwd)
    code = call(command, arguments)
    atexit._run_exitfuncs()  # which a forked process leaves out
    sys.exit(code)


@pytest.fixture(scope="session")
def start_command(environment) -> Callable[..., Started]:
    """Start a command as a process of its own."""

    def start(command: str | Path, *arguments: object, cwd: Path, **variables: str) -> Started:
        return Started(str(command), tuple(map(str, arguments)), cwd, environment(**variables))

    return start


@pytest.fixture(scope="session")
def run_process(start_command) -> Callable[..., Result]:
    """`run_command` as a process of its own, for what ends processes, starts some, or brings modules of its own."""

    def run(command: str | Path, *arguments: object, cwd: Path, **variables: str) -> Result:
        process = start_command(command, *arguments, cwd=cwd, **variables)
        out, err = process.communicate()
        return Result(process.args, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def run_program(environment) -> Callable[..., Result]:
    """`run_process` from its console script, for launchers, which start interpreters of their own."""

    def run(command: str, *arguments: str, cwd: Path, **variables: str) -> Result:
        words, own = [str(COMMANDS / command), *arguments], environment(**variables)
        return subprocess.run(words, cwd=cwd, env=own, capture_output=True, text=True, timeout=300, check=False)

    return run
