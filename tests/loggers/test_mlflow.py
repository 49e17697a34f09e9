"""A user's own logger: Lightning's MLFlowLogger, as conf/logger/mlflow.yaml builds it, over a local database."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger
from omegaconf import OmegaConf

from cops_lightning.loggers import tracked

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of its database library

CONF = Path(__file__).parents[2] / "conf" / "logger"


def test_mlflow_receives_the_scalars_and_the_whole_configuration(run, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for whoever comes next in this process
    surroundings = {"study": "trial", "seed": 3, "paths": {"root": "."}}
    composed = OmegaConf.create(surroundings | {"logger": OmegaConf.load(CONF / "mlflow.yaml")})
    loggers = [instantiate(composed.logger.mlflow), CSVLogger(tmp_path / "csv")]
    with tracked(loggers, run):
        for logger in loggers:
            logger.log_metrics({"train/total_step": 2.0}, 0)
            logger.log_metrics({"train/total_step": 1.0, "tiles/image_auroc": 0.75}, 1)

    client = MlflowClient("sqlite:///mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params == {"study": "trial", "seed": "0", "model/pool": "3", "model/limit": "None"}
    assert found.data.metrics["tiles/image_auroc"] == 0.75
    history = client.get_metric_history(found.info.run_id, "train/total_step")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.0)]


def test_a_run_that_failed_is_marked_as_failed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from lightning.pytorch.loggers import MLFlowLogger
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(ZeroDivisionError), tracked([MLFlowLogger("trial", tracking_uri=uri)], run):
        _ = 1 / 0
    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert found.info.status == "FAILED"
