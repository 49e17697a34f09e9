"""Everything that is learnt, in the released names, and the sentences that learnt tokens are put into."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.models.adaclip.settings import Sizes

NORMAL = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ABNORMAL = ("damaged {}", "broken {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = (
    "a bad photo of a {}.",
    "a low resolution photo of the {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
)
# Sentences of the normal state, which come first.
NORMAL_SENTENCES = len(NORMAL) * len(TEMPLATES)


def sentences(category: str) -> list[str]:
    """All sentences about a category, those of the normal state first."""
    name = category.replace("-", " ")
    return [
        template.format(state.format(name))
        for states in (NORMAL, ABNORMAL)
        for state in states
        for template in TEMPLATES
    ]


class Prompts(NamedTuple):
    """Prompt tokens of images for every prompted layer, static and dynamic ones added, in half precision's values."""

    visual: list[Float[Tensor, "b q w"]]
    text: list[Float[Tensor, "b q d"]]


class Static(nn.Module):
    """Prompts of each layer that are the same for all images."""

    def __init__(self, width: int, sizes: Sizes) -> None:
        super().__init__()
        self.static_prompts = nn.ParameterList(
            nn.Parameter(torch.zeros(sizes.length, width)) for _ in range(sizes.depth)
        )


class Heads(nn.Module):
    """Linear layers side by side."""

    def __init__(self, width: int, out: int, count: int) -> None:
        super().__init__()
        self.head = nn.ModuleList(nn.Linear(width, out) for _ in range(count))

    def each(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b q e"]:
        """What every layer makes of the same input."""
        return torch.stack([layer(x) for layer in self.head], dim=1)


class PromptLearner(nn.Module):
    """Prompts of both towers, and the linear layers that bring image and patches to the text.

    Args:
        width: D of the joint space.
        tower: width of the image tower.
        layers: whose patches are read.
        sizes: numbers of tokens.
    """

    def __init__(self, width: int, tower: int, layers: int, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.text_prompter, self.visual_prompter = Static(width, sizes), Static(tower, sizes)
        self.patch_token_layer = Heads(tower, width, layers)
        self.cls_token_layer = Heads(width, width, 1)
        self.dynamic_visual_prompt_generator = Heads(width, tower, sizes.length)
        self.dynamic_text_prompt_generator = Heads(width, width, sizes.length)

    def forward(self, image: Float[Tensor, "b d"]) -> Prompts:
        """Prompts of images, given their global features. The dynamic ones serve every layer."""
        visual, text = self.dynamic_visual_prompt_generator.each(image), self.dynamic_text_prompt_generator.each(image)
        return Prompts(
            [in_half(visual + static) for static in self.visual_prompter.static_prompts],
            # Overwritten first in the second layer: those of the first go unused.
            [text + static for static in list(self.text_prompter.static_prompts)[1:]],
        )


def in_half(x: Float[Tensor, "*n q e"]) -> Float[Tensor, "*n q e"]:
    """Rounded to half precision as released, and its gradient too."""
    return x.half().to(x.dtype)
