"""Bayes-PFL trained by Lightning's Trainer."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from cops_lightning.clip.weights import clip_from_state
from cops_lightning.data.datamodules import Folder
from cops_lightning.models.bayes_pfl import BayesPFL, Preset, Sizes
from cops_lightning.models.module import CopsModule
from tiny import quiet_trainer


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec",
    "ignore:Found .* in eval mode",
    "ignore:Be aware that when using `ckpt_path`",
)
def test_a_training_resumed_in_either_stage_ends_with_the_weights_of_an_uninterrupted_one(
    wordy_clip_state, tiles, tmp_path
):
    def fit(checkpoint=None, **options) -> BayesPFL:
        small = {"sizes": Sizes(prompts=2, context=2, states=3, flows=2), "sample_num": 2}
        module = CopsModule(BayesPFL(clip_from_state(wordy_clip_state), Preset(epochs=3), image_size=48, **small))
        trainer = quiet_trainer(tmp_path, max_epochs=3, **options)
        trainer.fit(module, datamodule=Folder(tiles, batch_size=8), ckpt_path=checkpoint)
        return module.model

    every_epoch = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    whole = fit(callbacks=[every_epoch], enable_checkpointing=True)
    assert whole.stage == 2
    for epochs in (1, 2):  # 2 is where the second stage begins
        resumed = fit(tmp_path / f"epoch={epochs - 1}.ckpt").state_dict()
        assert all(torch.equal(resumed[name], value) for name, value in whole.state_dict().items()), epochs
