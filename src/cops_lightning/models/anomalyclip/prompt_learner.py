"""The two prompts of all images and categories: [SOT] [context] "object." [EOT], and the same of "damaged object."."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# What follows the context, normal first.
WORDS = ("object.", "damaged object.")


class Prompts(NamedTuple):
    """Embeddings of the normal and the anomalous prompt, and where each has its EOT; what follows it is padding."""

    tokens: Float[Tensor, "2 t d"]
    ends: Int[Tensor, " 2"]


class PromptLearner(nn.Module):
    """Learnt context of both prompts and learnt tokens inside the text tower, in the released names.

    Args:
        sot: embedding of the token that starts a prompt.
        endings: embeddings of the words after the context, "." and EOT, of the normal and the anomalous prompt.
        context: context tokens of each prompt.
        deep_layers: text layers after the first with learnt tokens of their own, which both prompts share.
        deep_tokens: tokens in each of these layers.
    """

    sot: Tensor
    normal_ending: Tensor
    anomalous_ending: Tensor

    def __init__(
        self,
        sot: Float[Tensor, " d"],
        endings: tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]],
        context: int = 12,
        deep_layers: int = 8,
        deep_tokens: int = 4,
    ) -> None:
        super().__init__()
        width = len(sot)
        self.ctx_pos = nn.Parameter(torch.zeros(1, 1, context, width))
        self.ctx_neg = nn.Parameter(torch.zeros(1, 1, context, width))
        self.compound_prompts_text = nn.ParameterList(
            nn.Parameter(torch.zeros(deep_tokens, width)) for _ in range(deep_layers)
        )
        fixed = {"sot": sot, "normal_ending": endings[0], "anomalous_ending": endings[1]}
        for name, tokens in fixed.items():
            self.register_buffer(name, tokens.clone(), persistent=False)

    def deep(self) -> list[Float[Tensor, "2 c d"]]:
        """Deep tokens of each layer, for both prompts, rounded to half precision as released.

        They are repeated first, so the gradient of each prompt is rounded by itself and then summed in fp32.
        """
        return [tokens.expand(2, -1, -1).half().to(tokens.dtype) for tokens in self.compound_prompts_text]

    def forward(self) -> Prompts:
        """Both prompts, padded to one length."""
        endings = (self.normal_ending, self.anomalous_ending)
        contexts = (self.ctx_pos, self.ctx_neg)
        rows = [torch.cat([self.sot[None], c[0, 0], e]) for c, e in zip(contexts, endings, strict=True)]
        ends = torch.tensor([len(row) - 1 for row in rows], device=self.sot.device)
        return Prompts(nn.utils.rnn.pad_sequence(rows, batch_first=True), ends)
