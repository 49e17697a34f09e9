"""Everything that is learnt, in the released names, and its prompts: a bank that samples of flows are added to."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.models.bayes_pfl.anomaly_map import CrossAttention, Fusion
from cops_lightning.models.bayes_pfl.flows import Decoder, Encoder, ImageFlow, StateFlow
from cops_lightning.models.bayes_pfl.settings import Sizes

# Class names as the released prompts spell them; others stay, in lower case.
SPELT = {
    **dict.fromkeys(("macaroni1", "macaroni2"), "macaroni"),
    **dict.fromkeys(("pcb1", "pcb2", "pcb3", "pcb4"), "printed circuit board"),
    "pipe_fryum": "pipe fryum",
    "chewinggum": "chewing gum",
    "metal_nut": "metal nut",
}


def words_of(category: str) -> str:
    """What a prompt calls a category."""
    return SPELT.get(category, category).lower()


class PromptLearner(nn.Module):
    """A bank of contexts, and of both states' tokens, that samples of three flows are added to.

    Args:
        width: D of the joint space.
        tower: width of the image tower.
        layers: whose patches are read.
        sizes: numbers of tokens and steps.
    """

    def __init__(self, width: int, tower: int, layers: int, sizes: Sizes) -> None:
        super().__init__()
        hidden, bank = tower // 2, sizes.prompts
        self.prompt_context = nn.Parameter(torch.zeros(bank, sizes.context, width))
        self.prompt_state_normal = nn.Parameter(torch.zeros(bank, sizes.states, width))
        self.prompt_state_abnormal = nn.Parameter(torch.zeros(bank, sizes.states, width))
        self.temperature_pixel = nn.Parameter(torch.zeros(()))
        self.temperature_image = nn.Parameter(torch.zeros(()))
        self.context_encoder, self.state_encoder = Encoder(width, hidden), Encoder(width, hidden)
        self.context_decoder, self.state_decoder = Decoder(width, hidden), Decoder(width, hidden)
        self.PFL_context = ImageFlow(width, sizes.flows)
        self.PFL_normal, self.PFL_abnormal = StateFlow(width, sizes.flows), StateFlow(width, sizes.flows)
        self.fuse = Fusion(width, tower, layers, hidden)
        self.RCA = CrossAttention(width, tower, layers)
        self.class_mapping, self.image_mapping = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, context: Float[Tensor, "b r d"], normal: Float[Tensor, "r d"], abnormal: Float[Tensor, "r d"]
    ) -> Float[Tensor, "b 2 rk t d"]:
        """The learnt tokens of every prompt, normal first; of each state, the whole bank sample by sample."""
        contexts = self.prompt_context + context[:, None, :, None, None]
        bank = torch.stack([self.prompt_state_normal, self.prompt_state_abnormal])
        states = (bank[:, None] + torch.stack([normal, abnormal])[:, :, None, None])[None]
        states = states.expand(len(context), *states.shape[1:])
        contexts = contexts.expand(-1, 2, -1, -1, -1, -1)
        return torch.cat([contexts, states], dim=-2).flatten(2, 3)
