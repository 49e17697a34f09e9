"""What a tested module has to show, for the loggers that can show more than numbers."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from cops_lightning.callbacks.heat_maps import HeatMaps
from cops_lightning.callbacks.run import decorating
from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.models.module import CopsModule


class LogEvaluation(Callback):
    """Hands metrics, curves and heat maps to every logger with `log_evaluation`; put it after the heat maps."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand them over. Curves are computed only where a logger shows them."""
        assert isinstance(pl_module, CopsModule)
        loggers = [logger for logger in trainer.loggers if hasattr(logger, "log_evaluation")]
        # Curves are of the images of all processes, so all must ask for them, whichever of them logs.
        shown = any(getattr(logger, "shows_curves", False) for logger in loggers)
        curves = []
        with decorating("The curves of the evaluation"):
            curves = [curve for suite in pl_module.suites for curve in suite.curves()] if shown else []
        if not trainer.is_global_zero:
            return
        drawing = next((callback for callback in trainer.callbacks if isinstance(callback, HeatMaps)), HeatMaps())  # type: ignore[attr-defined]
        examples = {target: examples for target, examples in drawing.examples.items() if examples}
        evaluation = Evaluation(pl_module.rows, curves, examples, drawing.scale, drawing.drawn(trainer))
        for logger in loggers:
            with decorating(f"What {type(logger).__name__} shows of the evaluation"):
                logger.log_evaluation(evaluation)
