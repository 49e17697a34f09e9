"""Draws depend on their name alone."""

import torch

from cops_lightning.core.seeding import image_latents, named_generator


def test_equal_names_draw_equally_and_other_names_or_seeds_do_not():
    def draw(seed, *names):
        return torch.rand(4, generator=named_generator(seed, *names)).tolist()

    assert draw(0, "a", 1) == draw(0, "a", 1)
    assert draw(0, "a", 1) != draw(0, "a", 2)
    assert draw(0, "a", 1) != draw(1, "a", 1)
    # Names are separated: ("ab", "c") is not ("a", "bc").
    assert draw(0, "ab", "c") != draw(0, "a", "bc")


def test_an_images_latents_do_not_depend_on_its_neighbours():
    together = image_latents(3, ("x", "y", "z"), samples=2, width=5)
    assert torch.equal(together[1:2], image_latents(3, ("y",), samples=2, width=5))
