"""AdaCLIP trained by Lightning's Trainer."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from cops_lightning.clip.weights import clip_from_state
from cops_lightning.data.datamodules import Folder
from cops_lightning.models.adaclip import AdaCLIP, Sizes
from cops_lightning.models.module import CopsModule
from tiny import quiet_trainer


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec",
    "ignore:Found .* in eval mode",
    "ignore:Be aware that when using `ckpt_path`",
)
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(wordy_clip_state, tiles, tmp_path):
    def made() -> CopsModule:
        return CopsModule(AdaCLIP(clip_from_state(wordy_clip_state), image_size=32, sizes=Sizes(2, 2), k_clusters=2))

    def fit(checkpoint=None, **options) -> CopsModule:
        module, trainer = made(), quiet_trainer(tmp_path, max_epochs=2, **options)
        trainer.fit(module, datamodule=Folder(tiles, batch_size=2, limit=8, mosaic=0.5), ckpt_path=checkpoint)
        return module

    every_epoch = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    whole = fit(callbacks=[every_epoch], enable_checkpointing=True).state_dict()
    resumed, before = fit(tmp_path / "epoch=0.ckpt").state_dict(), made().state_dict()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
        assert torch.equal(value, before[name]) == (name == "clip_model.text_prompter.static_prompts.0"), name


def test_it_is_trained_by_the_rule_of_adamw_at_ten_times_the_rate(wordy_clip_state):
    module = CopsModule(AdaCLIP(clip_from_state(wordy_clip_state), image_size=32, sizes=Sizes(1, 1)))
    ours, parameters = module.configure_optimizers(), [value for _, value in module.model.released_parameters()]
    theirs = torch.optim.AdamW(copies := [value.detach().clone() for value in parameters], lr=0.01, betas=(0.5, 0.999))
    for _ in range(2):
        for own, copy in zip(parameters, copies, strict=True):
            own.grad = torch.randn(own.shape)
            copy.grad = own.grad.clone()
        ours.step()
        theirs.step()
    assert all(torch.equal(own, copy) for own, copy in zip(parameters, copies, strict=True))
