"""The prompt: [SOT] [context] [state] [class] "." [EOT], filled with an image's prototypes and class biases."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

StateReading = Literal["released", "matched"]
DeepReading = Literal["released", "exact"]


class Prompts(NamedTuple):
    """Prompt embeddings of each image and state. All m class samples share the prefix (SOT, context, state)."""

    prefix: Float[Tensor, "b 2 t1 d"]
    suffix: Float[Tensor, "b 2 m t2 d"]


class PromptLearner(nn.Module):
    """Learnable tokens of both prompts, in the released names, and the fixed tokens around them.

    Sizes default to the released ones.

    Args:
        frame: embeddings of SOT, "." and EOT.
        prototypes: state tokens per prompt, one for each prototype.
        context: context tokens per prompt, before those of the state.
        classes: class tokens per prompt, after them.
        deep_layers: text layers with learnt tokens of their own, which both prompts share.
        deep_tokens: tokens in each of these layers.
    """

    sot: Tensor
    period: Tensor
    eot: Tensor

    def __init__(
        self,
        frame: tuple[Float[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, " d"]],
        prototypes: int = 6,
        context: int = 6,
        classes: int = 2,
        deep_layers: int = 8,
        deep_tokens: int = 4,
    ) -> None:
        super().__init__()
        width = frame[0].shape[0]
        self.context, self.prototypes, self.classes = context, prototypes, classes
        tokens = context + prototypes + classes
        self.ctx_pos = nn.Parameter(0.02 * torch.randn(1, 1, tokens, width))
        self.ctx_neg = nn.Parameter(0.02 * torch.randn(1, 1, tokens, width))
        self.compound_prompts_text = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(deep_tokens, width)) for _ in range(deep_layers)
        )
        for name, token in zip(("sot", "period", "eot"), frame, strict=True):
            self.register_buffer(name, token.clone(), persistent=False)

    def deep(self, prompts: int, reading: DeepReading) -> list[Float[Tensor, "n c d"]]:
        """Deep tokens of each layer, repeated for so many prompts.

        The released program rounds them to half precision once they are repeated. So in training their gradient is
        rounded prompt by prompt, and then summed in single precision.
        """
        repeated = [tokens.expand(prompts, -1, -1) for tokens in self.compound_prompts_text]
        if reading == "released":
            return [tokens.half().to(tokens.dtype) for tokens in repeated]
        return repeated

    def forward(
        self,
        prototypes: Float[Tensor, "b 2 k d"] | None,
        biases: Float[Tensor, "b m d"] | None,
        states: StateReading,
    ) -> Prompts:
        """Prompts of every image. `prototypes` come normal first, `biases` are the VAE's decodings.

        As released, the prototypes cross over: the normal prompt receives the anomalous ones and vice versa;
        "matched" gives each prompt its own. Without prototypes the state tokens are the learnt ones alone, without
        biases the class tokens are (m is 1); without both the prompts depend on no image (b is 1).
        """
        b = next((given.shape[0] for given in (prototypes, biases) if given is not None), 1)
        learnt = torch.cat([self.ctx_pos, self.ctx_neg], dim=1)[0].expand(b, -1, -1, -1)
        context, state, classes = torch.split(learnt, [self.context, self.prototypes, self.classes], dim=2)
        if prototypes is not None:
            state = state + (prototypes.flip(1) if states == "released" else prototypes)
        classes = classes[:, :, None]
        if biases is not None:
            classes = classes + biases[:, None, :, None]
        m, d = classes.shape[2], classes.shape[-1]
        prefix = torch.cat([self.sot.expand(b, 2, 1, d), context, state], dim=2)
        ends = [token.expand(b, 2, m, 1, d) for token in (self.period, self.eot)]
        return Prompts(prefix, torch.cat([classes, *ends], dim=3))
