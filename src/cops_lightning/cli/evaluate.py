"""`cops-eval`: score targets with a trained checkpoint, without training."""

from typing import Any

from cops_lightning.cli.hydra_app import HydraApp
from cops_lightning.config.settings import EvalSettings


def main() -> Any:
    """Entry point of the console command."""
    return APP()


APP = HydraApp(
    "eval",
    "score",
    EvalSettings,
    """\
cops-eval: score datasets with trained CoPS prompts, without training.

Examples
  cops-eval checkpoint=RUN/checkpoints/last.ckpt targets=[mvtec] paths.data=/data
  cops-eval checkpoint=released_visa.pth auxiliary=visa backbone=vit_l14_336 targets=[mvtec] paths.data=/data
  cops-eval checkpoint=RUN/checkpoints/last.ckpt model.readings.latents=fixed targets=[mvtec]
  cops-eval -m checkpoint=SEED0/checkpoints/last.ckpt,SEED1/checkpoints/last.ckpt targets=[mvtec]

A checkpoint of cops-train says what it was trained on, with which backbone, method and seed; a released .pth does not,
so it needs auxiliary= and backbone=. What is set below model and backbone changes those of the checkpoint. Categories
that were trained on are refused unless named in evaluate_seen=[...].
Features of the frozen encoder are kept below paths.cache (or COPS_CACHE) for later runs;
callbacks.feature_cache.budget_gb bounds them, callbacks.feature_cache=null does without.
trainer.devices=4 shares the images among that many GPUs, or processes with trainer.accelerator=cpu.""",
)


if __name__ == "__main__":
    main()
