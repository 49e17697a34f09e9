"""Baselines of hand-written prompts, against small cases worked out by hand and by scipy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hmean

from cops_lightning.clip.tokenizer import encode_texts
from cops_lightning.clip.weights import load_backbone
from cops_lightning.clip.windows import encode_windows, square_windows
from cops_lightning.core.errors import ConfigError
from cops_lightning.models.baselines.clip import PlainClip
from cops_lightning.models.baselines.winclip import WinClip, harmonic_mean, spread_windows
from cops_lightning.models.baselines.wording import ENSEMBLE, PLAIN, StatePrompts, spoken


@pytest.fixture(scope="module")
def mini():
    return load_backbone("packaged:mini", "own")


@pytest.fixture
def photos() -> torch.Tensor:
    """Two preprocessed images of 32 px: 4 x 4 patches of the packaged backbone."""
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("category", "said"),
    [
        ("metal_nut", "metal nut"),
        ("pcb1", "pcb"),
        ("Blotchy_099", "blotchy"),
        ("ceramic tile", "ceramic tile"),
        ("01", "object"),
        ("transistor", "semiconductor"),
    ],
)
def test_a_category_is_called_by_its_words_unless_it_is_given_a_name(category, said):
    assert spoken(category, {"transistor": "semiconductor"}) == said


def test_the_ensemble_says_every_state_in_every_template():
    normal, anomalous = ENSEMBLE
    assert (len(normal), len(anomalous)) == (7 * 22, 4 * 22)
    assert len({*normal, *anomalous}) == 11 * 22
    assert "a dark photo of the {} with flaw." in anomalous
    assert "a photo of a flawless {} for visual inspection." in normal
    assert all(sentence.count("{}") == 1 for sentence in (*normal, *anomalous, *PLAIN[0], *PLAIN[1]))


def test_states_are_unit_means_of_unit_features_in_the_order_normal_anomalous(mini):
    prompts = StatePrompts(mini, (("good {}", "fine {}"), ("bad {}",)), {})
    good, fine, bad = encode_texts(mini, ["good gear", "fine gear", "bad gear"])
    (found,) = prompts(["gear"])
    torch.testing.assert_close(found[0], (good + fine) / (good + fine).norm(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1], bad, atol=1e-6, rtol=0)


def test_the_score_of_a_patch_is_the_harmonic_mean_of_the_windows_that_cover_it():
    # Windows of 2 x 2 on a grid of 3 x 3, scored 1/2, 1/4, 1/5, 1/10: reciprocals 2, 4, 5, 10.
    scores = torch.tensor([[1 / 2, 1 / 4, 1 / 5, 1 / 10]])
    # Corners see one window, edges two, the centre all four: 4 / 21.
    expected = [1 / 2, 2 / 6, 1 / 4, 2 / 7, 4 / 21, 2 / 14, 1 / 5, 2 / 15, 1 / 10]
    found = spread_windows(scores, square_windows(3, 2), 9)
    torch.testing.assert_close(found, torch.tensor([expected]))


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=5))
def test_harmonic_means_are_scipys(values):
    found = harmonic_mean([torch.tensor([[value]]) for value in values])
    assert found.item() == pytest.approx(hmean(values), rel=1e-4)


@pytest.mark.parametrize("model", [PlainClip, pytest.param(WinClip, marks=pytest.mark.slow)])
def test_scores_lie_between_zero_and_one_and_depend_on_image_and_category_alone(model, mini, photos):
    detector = model(mini, 32)
    scores = detector.score(photos, names=["a", "b"], categories=["gear", "cable"])
    assert (scores.image.shape, scores.patch.shape, scores.map.shape) == ((2,), (2, 16), (2, 32, 32))
    for part in (scores.image, scores.patch, scores.map):
        assert part.min() >= 0
        assert part.max() <= 1
    alone = detector.score(photos[1:], categories=["cable"])
    torch.testing.assert_close(alone.patch[0], scores.patch[1], atol=2e-5, rtol=0)
    torch.testing.assert_close(alone.image[0], scores.image[1], atol=2e-5, rtol=0)
    other = detector.score(photos[1:], categories=["gear"])
    assert not torch.allclose(other.image, alone.image, atol=1e-4)


@pytest.mark.parametrize("model", [PlainClip, WinClip])
def test_nothing_of_it_trains(model, mini):
    assert not any(parameter.requires_grad for parameter in model(mini, 32).parameters())


def test_plain_clip_is_the_softmax_of_two_cosines(mini, photos):
    detector = PlainClip(mini, 32)
    scores = detector.score(photos, categories=["gear", "gear"])
    text = encode_texts(mini, ["a photo of a normal gear.", "a photo of an anomalous gear."])
    features = mini.encode_image(photos)
    for found, seen in ((scores.image, features.image), (scores.patch, features.patches)):
        cosine = torch.nn.functional.normalize(seen, dim=-1) @ text.T
        # A softmax over two is a sigmoid of the difference; the temperature is 0.07.
        torch.testing.assert_close(found, torch.sigmoid((cosine[..., 1] - cosine[..., 0]) / 0.07))


def test_plain_clip_scores_features_as_it_scores_the_images_they_come_from(mini, photos):
    detector = PlainClip(mini, 32)
    direct = detector.score(photos)
    stored = detector.score_features(detector.prepared(mini.encode_image(photos)), names=["a", "b"])
    assert torch.equal(direct.image, stored.image)
    assert torch.equal(direct.patch, stored.patch)


def test_winclip_joins_the_image_and_both_window_sizes_by_their_harmonic_mean(mini, photos):
    detector = WinClip(mini, 32)
    scores = detector.score(photos)
    visual, text = mini.clip.visual, detector.prompts(["object", "object"])

    def anomalous(features: torch.Tensor) -> torch.Tensor:
        cosine = torch.nn.functional.normalize(features, dim=-1) @ text.transpose(1, 2)
        return torch.softmax(cosine / 0.07, dim=-1)[..., 1]

    # The first patch of the 4 x 4 grid: covered by one window of 2 x 2 and one of 3 x 3, both the first of their size.
    parts = [[list(range(16))], [[0, 1, 4, 5]], [[0, 1, 2, 4, 5, 6, 8, 9, 10]]]
    whole, two, three = (anomalous(encode_windows(visual, photos, torch.tensor(part)))[:, 0] for part in parts)
    torch.testing.assert_close(scores.image, whole)
    torch.testing.assert_close(scores.patch[:, 0], 3 / (1 / whole + 1 / two + 1 / three), atol=1e-5, rtol=0)


def test_an_image_too_small_for_the_windows_says_which_size_is_enough(mini):
    with pytest.raises(ConfigError, match="image_size 16 gives a grid of 2 x 2 patches.*use 24 or more"):
        WinClip(mini, 16)
