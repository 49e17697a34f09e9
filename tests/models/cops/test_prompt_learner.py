"""What each token of a prompt is."""

import torch

from cops_lightning.models.cops.prompt_learner import PromptLearner

FRAME = (torch.full((12,), -1.0), torch.full((12,), -2.0), torch.full((12,), -3.0))


def scaffold() -> PromptLearner:
    """Two context, three state and two class tokens; the learnt tokens are 0 for normal and 100 for anomalous."""
    built = PromptLearner(FRAME, prototypes=3, context=2, classes=2, deep_layers=1)
    with torch.no_grad():
        built.ctx_pos.fill_(0)
        built.ctx_neg.fill_(100)
    return built


def prototypes() -> torch.Tensor:
    """Normal prototypes are 1, 2, 3, anomalous ones 10, 20, 30."""
    values = torch.tensor([[[1.0, 2, 3], [10, 20, 30]]])
    return values[..., None].expand(1, 2, 3, 12)


def first(x: torch.Tensor) -> list:
    """Embeddings are constant along the width here: their first entry says it all."""
    return x[..., 0].tolist()


def test_a_prompt_reads_sot_context_state_class_period_eot():
    biases = torch.tensor([5.0, 7.0]).view(1, 2, 1).expand(1, 2, 12)
    prompts = scaffold()(prototypes(), biases, "matched")
    assert first(prompts.prefix[0, 0]) == [-1, 0, 0, 1, 2, 3]
    assert first(prompts.prefix[0, 1]) == [-1, 100, 100, 110, 120, 130]
    # Each class sample adds its bias to both class tokens of both prompts.
    assert first(prompts.suffix[0, 0]) == [[5, 5, -2, -3], [7, 7, -2, -3]]
    assert first(prompts.suffix[0, 1]) == [[105, 105, -2, -3], [107, 107, -2, -3]]


def test_as_released_the_normal_prompt_receives_the_anomalous_prototypes_and_vice_versa():
    prompts = scaffold()(prototypes(), torch.zeros(1, 1, 12), "released")
    assert first(prompts.prefix[0, 0, 3:]) == [10, 20, 30]
    assert first(prompts.prefix[0, 1, 3:]) == [101, 102, 103]


def test_as_released_deep_tokens_are_rounded_to_half_precision():
    built = scaffold()
    with torch.no_grad():
        built.compound_prompts_text[0].fill_(1 / 3)
    assert built.deep(2, "exact")[0][1, 0, 0] == torch.tensor(1 / 3)
    assert built.deep(2, "released")[0][1, 0, 0] == torch.tensor(1 / 3).half().float() != torch.tensor(1 / 3)


def test_as_released_the_gradient_of_deep_tokens_is_rounded_prompt_by_prompt_and_summed_exactly():
    built, tokens = scaffold(), 3
    # 1 + 2^-11 lies halfway between neighbours of half precision and rounds to 1, so three prompts give 3.
    (built.deep(tokens, "released")[0] * (1 + 2**-11)).sum().backward()
    assert built.compound_prompts_text[0].grad[0, 0] == tokens
    built.zero_grad()
    # 1023.5 of one prompt is a number of half precision; 3070.5, the sum over three, is not.
    (built.deep(tokens, "released")[0] * 1023.5).sum().backward()
    assert built.compound_prompts_text[0].grad[0, 0] == 3070.5


def test_the_released_sizes_give_seventeen_positions():
    prompts = PromptLearner(FRAME)(torch.zeros(1, 2, 6, 12), torch.zeros(1, 1, 12), "released")
    assert prompts.prefix.shape[2] + prompts.suffix.shape[3] == 17
