"""AnomalyCLIP trained by Lightning's Trainer."""

import pytest
import torch

from cops_lightning.clip.weights import clip_from_state
from cops_lightning.data.datamodules import Folder
from cops_lightning.models.anomalyclip import AnomalyCLIP, Sizes
from cops_lightning.models.module import CopsModule
from tiny import quiet_trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning", "ignore:Found .* in eval mode"
)


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(wordy_clip_state, tiles, tmp_path):
    def fit(epochs: int, checkpoint=None):
        module = CopsModule(AnomalyCLIP(clip_from_state(wordy_clip_state), image_size=48, sizes=Sizes(3, 2, 2)))
        trainer = quiet_trainer(tmp_path, max_epochs=epochs)
        trainer.fit(module, datamodule=Folder(tiles, batch_size=2), ckpt_path=checkpoint)
        return module, trainer

    whole = fit(3)[0].state_dict()
    fit(1)[1].save_checkpoint(tmp_path / "first.ckpt")
    resumed = fit(3, tmp_path / "first.ckpt")[0].state_dict()
    start = AnomalyCLIP(clip_from_state(wordy_clip_state), image_size=48, sizes=Sizes(3, 2, 2))
    for name, before in start.released_parameters():
        assert torch.equal(resumed[name], whole[name]), name
        assert not torch.equal(whole[name], before), name
