"""Train on rendered images, test on categories that were never seen, look at the most anomalous image.

    python examples/quickstart.py        # nothing is downloaded; the packaged backbone is a demonstration

With real data: cl.VisA("/data/visa"), cl.MVTecAD("/data/mvtec"), and backbone="vit_l14_336", preset="visa".
"""

from pathlib import Path

from lightning import Trainer

import cops_lightning as cl
from cops_lightning.models.prediction import Prediction


def main(out: Path = Path("runs/quickstart"), images: int = 200) -> list[Prediction]:
    """Predictions for the test images, the most anomalous first. Writes a checkpoint and a heat map into `out`."""
    seen = cl.Rendered("procedural_auxiliary", limit=images)
    unseen = cl.Rendered("procedural_easy", limit=images)
    module = cl.CopsModule(backbone="mini", preset="demo")
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(module, datamodule=seen)
    (metrics,) = trainer.test(module, datamodule=unseen, verbose=False)
    for name in ("image_auroc", "pixel_auroc", "pixel_aupro"):
        print(f"{name:12} {metrics[f'procedural_easy/{name}']:.3f}")

    out.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(out / "trained.ckpt")
    detector = cl.load(out / "trained.ckpt")
    photos = [sample.image for sample in unseen.targets[0].test]
    found = sorted(detector.predict(photos), key=lambda one: one.score, reverse=True)
    found[0].save_heatmap(out / "most_anomalous.png")
    print(f"most anomalous: {found[0].path}, score {found[0].score:.3f}; see {out / 'most_anomalous.png'}")
    return found


if __name__ == "__main__":
    main()
