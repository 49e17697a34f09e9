"""How the tests are run: what is slow, and what is shared with none of them."""

import gc
from importlib import import_module
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

# Machines are noisy: no test is judged by its time.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Whole runs, commands and trackers: left out of `make test-fast`, which is for what one changes a line of.
SLOW = (
    "app/",
    "benchmark/",
    "callbacks/",
    "cli/",
    "inference/test_predict.py",
    "scripts/",
    "data/test_listed_files.py",
    "demo/test_packaged_backbone.py",
    "export/",
    "loggers/test_mlflow.py",
    "loggers/test_wandb_logger.py",
    "models/test_module.py",
    "models/test_sharing.py",
    "test_docs.py",
    "test_examples.py",
    "test_readme.py",
    "test_wandb_sweeps.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """The shared fixtures, except in the process that only hands tests to others: they import what takes seconds."""
    gc.disable()  # until all is imported
    hands_out = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if not hands_out:
        for shared in ("tiny", "commands"):
            config.pluginmanager.register(import_module(shared), shared)


def is_slow(path: Path) -> bool:
    return path.relative_to(ROOT / "tests").as_posix().startswith(SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing of what is left out."""
    return True if config.option.markexpr == "not slow" and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # What ONNX and OpenVINO load stays in the process, in which a later test that writes for TensorBoard has crashed.
    items.sort(key=lambda item: item.path.parent.name == "export")
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What was imported stays: each collection of garbage would look through it again, and hypothesis asks for many."""
    gc.collect()
    gc.freeze()
    gc.enable()
