"""`cops-train`: learn prompts on an auxiliary dataset and evaluate them on datasets they never saw."""

from typing import Any

from cops_lightning.cli.hydra_app import HydraApp
from cops_lightning.config.settings import TrainSettings


def main() -> Any:
    """Entry point of the console command."""
    return APP()


APP = HydraApp(
    "train",
    "train",
    TrainSettings,
    """\
cops-train: learn CoPS prompts on one auxiliary dataset, then evaluate them on datasets they never saw.

Examples
  cops-train                                  (offline: rendered images and the packaged demonstration backbone)
  cops-train backbone=vit_l14_336 auxiliary=visa targets=[mvtec,btad] paths.data=/data
  cops-train backbone=vit_l14_336 auxiliary=mvtec targets=[visa] paths.data=/data seed=3 logger=[csv,wandb]
  cops-train backbone=vit_b16 auxiliary=own auxiliary.source=/data/my_parts targets=[/data/other_parts]
  cops-train -m seed=0,1,2,3,4 experiment=visa_to_rest paths.data=/data    (one run per seed)
  cops-train model=static_prompts                                          (a baseline in the same harness)
  cops-train -m model=clip,winclip,handcrafted,brightness targets=[mvtec]  (nothing learnt, no auxiliary dataset)
  cops-train -m ablation=none,without_states,without_classes               (parts taken away)
  cops-train -m experiment=seed_variance                                   (a study with its own sweep)
  cops-train --config-dir mine model=my_detector                           (options of your own, see examples/)
  cops-train debug=fast                                                    (does it run at all? also overfit, profile)

What to train on is auxiliary=, how is preset=: visa and mvtec are the authors' settings. Datasets are found by name
below paths.data (or the environment variable COPS_DATA_ROOT), or by path: a folder, a meta.json, a CSV or JSONL, a YAML
spec. CLIP weights come from backbone.weights, from the environment variable COPS_CLIP_WEIGHTS, or from open_clip's
download. Results go to runs/<study>/<model>-<auxiliary>-<what was changed>-seed<seed>-<id>/, whose name is that of what
is run: the same command again says that it is done, or goes on where it was interrupted.

Features of the frozen encoder are kept below paths.cache (or COPS_CACHE) and used by every later epoch, seed and
ablation: callbacks.feature_cache.budget_gb bounds them, callbacks.feature_cache.dtype=bf16 halves them,
callbacks.feature_cache=null does without.

With -m, values after commas make a sweep, whose jobs are runs like any other: the same command again skips those that
are done and goes on with those that were interrupted; fail_fast=true stops at a failure.

trainer.devices=4 shares every batch among that many GPUs (or processes, with trainer.accelerator=cpu): data.batch_size
is that of all together, and the results are those of one, to rounding. Every argument of Lightning's Trainer may be
given below trainer.""",
)


if __name__ == "__main__":
    main()
