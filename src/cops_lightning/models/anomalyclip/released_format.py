"""The file format of the authors: {"prompt_learner": names to tensors}, with embeddings of CLIP and parts never used.

Beside what is learnt, a file holds the embeddings of the prompts' fixed tokens, the prompts as token numbers, and
projections that the released program builds and never calls, one random layer many times over. The program refuses a
file that lacks any of it, so all of it is written. Read are the embeddings, to find a file of another CLIP.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cops_lightning.core.tensor_files import write_tensors
from cops_lightning.core.types import StateDict

KEY = "prompt_learner"
DEAD = "compound_prompt_projections."
DEAD_WIDTH = 896
PLACEHOLDER = 343  # "x", in the places of the context
STATES = ("pos", "neg")


def recognise(content: Mapping[str, Any]) -> StateDict | None:
    """The tensors of a released checkpoint of AnomalyCLIP, None for any other content of a file."""
    inner = content.get(KEY)
    return inner if isinstance(inner, Mapping) and "token_prefix_pos" in inner else None


def learnt(weights: StateDict) -> dict[str, Tensor]:
    """What a released checkpoint has learnt, and any name that the format does not know."""
    rest = (DEAD, "token_prefix_", "token_suffix_", "tokenized_prompts_")
    return {name: torch.as_tensor(value) for name, value in weights.items() if not name.startswith(rest)}


def fixed_tensors(
    table: Float[Tensor, "v d"], numbers: Sequence[Sequence[int]], context: int, length: int
) -> dict[str, Tensor]:
    """What a checkpoint holds of CLIP: token numbers of both prompts, padded to the tower's length, and embeddings.

    `numbers` are those of each prompt without its context: SOT, words and EOT.
    """
    tensors: dict[str, Tensor] = {}
    for state, (sot, *ending) in zip(STATES, numbers, strict=True):
        tokens = torch.zeros(1, 1, length, dtype=torch.int32)
        tokens[0, 0, : 1 + context + len(ending)] = torch.tensor([sot, *[PLACEHOLDER] * context, *ending])
        embedded = table[tokens.long()].detach().cpu()
        tensors |= {
            f"token_prefix_{state}": embedded[:, :, :1].clone(),
            f"token_suffix_{state}": embedded[:, :, 1 + context :].clone(),
            f"tokenized_prompts_{state}": tokens,
        }
    return tensors


def differing(weights: StateDict, fixed: StateDict) -> list[str]:
    """Names of tensors in a checkpoint that are not those of this CLIP, as far as the checkpoint has them."""
    return [
        name
        for name, expected in fixed.items()
        if name in weights
        and not (
            weights[name].shape == expected.shape
            and torch.allclose(torch.as_tensor(weights[name]).float(), expected.float(), rtol=1e-3, atol=1e-5)
        )
    ]


def write_released(path: Path, learnt: StateDict, fixed: StateDict) -> None:
    """Write the released checkpoint format, atomically."""
    width = fixed["token_prefix_pos"].shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dead = nn.Linear(width, DEAD_WIDTH)
    layers = sum(name.startswith("compound_prompts_text.") for name in learnt)
    unused = {
        f"{DEAD}{layer}.{name}": value.detach() for layer in range(layers) for name, value in dead.named_parameters()
    }
    state = {name: value.detach().cpu().clone() for name, value in learnt.items()}
    write_tensors(path, {KEY: {**state, **fixed, **unused}})
