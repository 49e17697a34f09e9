"""Cosines that are derived by hand, and their bounds."""

import pytest
import torch

from cops_lightning.callbacks.similarity import prompt_similarity, prototype_similarities, token_similarities


def test_prototypes_of_one_kind_that_point_one_way_are_alike_and_opposite_to_the_other_kind():
    prototypes = torch.ones(3, 2, 4, 8)
    prototypes[:, 1] = -2  # length does not matter
    assert prototype_similarities(prototypes) == {
        "similarity/prototypes_across": pytest.approx(-1),
        "similarity/prototypes_normal": pytest.approx(1),
        "similarity/prototypes_anomalous": pytest.approx(1),
    }


def test_a_prototype_is_not_compared_with_itself():
    # Two orthogonal normal prototypes; anomalous ones at 60 degrees to each other.
    prototypes = torch.tensor([[[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 3**0.5 / 2, 0.5]]]])
    found = prototype_similarities(prototypes)
    assert found["similarity/prototypes_normal"] == pytest.approx(0, abs=1e-6)
    assert found["similarity/prototypes_anomalous"] == pytest.approx(0.5)
    assert found["similarity/prototypes_across"] == pytest.approx(3**0.5 / 2 / 4)  # one pair of four


def test_a_single_prototype_has_none_of_its_kind_to_compare_with():
    assert set(prototype_similarities(torch.randn(2, 2, 1, 8))) == {"similarity/prototypes_across"}


def test_tokens_are_compared_position_by_position(tiny_model):
    scaffold = tiny_model.prompt_learner
    with torch.no_grad():
        scaffold.ctx_neg.copy_(scaffold.ctx_pos)
        scaffold.ctx_neg[0, 0, scaffold.context] *= -1  # the first of six state tokens
    assert token_similarities(scaffold) == {
        "similarity/context_tokens": pytest.approx(1),
        "similarity/state_tokens": pytest.approx((5 - 1) / 6),
        "similarity/class_tokens": pytest.approx(1),
    }


def test_equal_prompts_have_similarity_one(tiny_model):
    with torch.no_grad():
        tiny_model.prompt_learner.ctx_neg.copy_(tiny_model.prompt_learner.ctx_pos)
    assert prompt_similarity(tiny_model, None, None) == {"similarity/prompts": pytest.approx(1)}


def test_prompts_of_several_images_are_averaged(tiny_model):
    width = tiny_model.backbone.width
    prototypes, biases = torch.randn(2, 2, 6, width), torch.randn(2, 1, width)
    each = [prompt_similarity(tiny_model, prototypes[k : k + 1], biases[k : k + 1]) for k in range(2)]
    together = prompt_similarity(tiny_model, prototypes, biases)["similarity/prompts"]
    assert together == pytest.approx(sum(one["similarity/prompts"] for one in each) / 2, abs=1e-5)
