"""The contrastive loss beside torch's, retrieval counted by hand, and words that nobody taught."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.data.manifest import bundled_folder, read_manifest
from course_lib.errors import UnknownNameError
from course_lib.strategies import crossmodal
from course_lib.strategies.inserts import StrategyError

SCENE = {
    "food": "a hot dog with mustard", "support": "white plate", "table": "blue tiles",
    "light": "daylight", "view": "from above, close", "around": "nothing",
}  # fmt: skip


def pair(seed, n=5, width=7):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=stream), torch.randn(n, width, generator=stream)


def both_ways(images, texts, scale):
    """The loss of each way, one row at a time."""
    one, other = [], []
    for i in range(len(images)):
        to_texts = [scale * F.cosine_similarity(images[i], each, dim=0) for each in texts]
        to_images = [scale * F.cosine_similarity(texts[i], each, dim=0) for each in images]
        one.append(F.cross_entropy(torch.stack(to_texts)[None], torch.tensor([i])))
        other.append(F.cross_entropy(torch.stack(to_images)[None], torch.tensor([i])))
    return torch.stack(one).mean(), torch.stack(other).mean()


@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_the_loss_is_torchs_both_ways_and_symmetric(scale):
    images, texts = pair(0)
    one, other = both_ways(images, texts, scale)
    assert abs(one - other) > 1e-3  # so that one way alone would be found out
    found = crossmodal.contrastive_loss(images, texts, scale)
    assert torch.allclose(found, (one + other) / 2, atol=1e-5)
    assert torch.allclose(found, crossmodal.contrastive_loss(texts, images, scale), atol=1e-6)
    assert torch.allclose(found, crossmodal.contrastive_loss(3 * images, texts, scale), atol=1e-5)


def test_equal_sentences_are_right_in_equal_parts():
    images, texts = pair(1, n=3)
    texts[2] = texts[0]
    fits = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).bool()
    scores = 5 * F.normalize(images) @ F.normalize(texts).T
    logs = [scores.log_softmax(1), scores.T.log_softmax(1)]
    by_hand = [-((e[0, 0] + e[0, 2]) / 2 + e[1, 1] + (e[2, 0] + e[2, 2]) / 2) / 3 for e in logs]
    found = crossmodal.contrastive_loss(images, texts, 5, fits)
    assert torch.allclose(found, sum(by_hand) / 2, atol=1e-6)


def test_recall_by_hand():
    similarity = torch.tensor(
        [[0.9, 0.1, 0.3, 0.2], [0.8, 0.7, 0.1, 0.0], [0.5, 0.4, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]]
    )  # ranks of the right one: 1, 2, 4, 1
    found = crossmodal.retrieval(similarity, at=(1, 2, 4))
    assert [found[k].found for k in (1, 2, 4)] == [0.5, 0.75, 1.0]
    assert [found[k].chance for k in (1, 2, 4)] == pytest.approx([0.25, 0.5, 1.0])
    back = crossmodal.retrieval(similarity.T, at=(1,))  # 1, 1, 3 (after 0.3, 0.3), 1
    assert back[1].found == 0.75


def test_a_row_with_two_that_fit_has_twice_the_chance():
    fits = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0]]).bool()
    found = crossmodal.retrieval(torch.tensor([[0.1, 0.9, 0.3, 0], [1, 0, 0.5, 0]]), fits, (1, 2))
    assert [each.found for each in found.values()] == [0.5, 1.0]
    # at 2: 1 - (2 of 4 don't fit: 1 pair of 6), and 2 of 4
    assert [each.chance for each in found.values()] == pytest.approx([3 / 8, (5 / 6 + 1 / 2) / 2])


def test_sentences_say_what_the_scene_says():
    assert crossmodal.sentences(SCENE) == (
        "a hot dog with mustard",
        "a hot dog with mustard on a white plate",
        "a hot dog with mustard on a white plate, blue tiles, from above, close, daylight",
    )
    paper = crossmodal.sentences({**SCENE, "support": "brown paper"})
    assert paper[1] == "a hot dog with mustard on brown paper"
    bare = crossmodal.sentences({**SCENE, "support": "nothing under the food"})
    assert bare[1] == "a hot dog with mustard on the bare table"
    for entry in read_manifest(bundled_folder())["pictures"].values():
        food, below, whole = crossmodal.sentences(entry["scene"])
        assert whole.startswith(below)
        assert below.startswith(f"{food} on ")


def towers(words=("a", "red", "blue", "dog", "cup"), seed=0):
    torch.manual_seed(seed)
    return crossmodal.TwoTowers(4, words, width=8)


def test_a_sentence_is_the_mean_of_its_words():
    model = towers()
    vectors = model.word_vectors.weight[[model.words["red"], model.words["cup"]]]
    expected = F.normalize(model.text_map(vectors.mean(0)), dim=0)
    found = model.texts(["Red, cup!", "a dog", "cup red"])
    assert torch.allclose(found[0], expected, atol=1e-6)
    assert torch.allclose(found[0], found[2], atol=1e-6)  # so word order is lost
    assert torch.allclose(found.norm(dim=1), torch.ones(3))
    assert torch.allclose(found[1], model.texts(["a dog"])[0], atol=1e-6)


def test_an_unknown_word_is_named():
    with pytest.raises(UnknownNameError, match=r"'a green cups' .* green, cups\. Say it in known"):
        towers().texts(["a dog", "a green cups"])


def colours(seed=0):
    """Features that say which of four sentences belongs to them."""
    lines = ["a red dog", "a blue dog", "a red cup", "a blue cup"]
    which = torch.randint(4, (80,), generator=torch.Generator().manual_seed(seed))
    noise = 0.3 * torch.randn(80, 4, generator=torch.Generator().manual_seed(seed + 1))
    return torch.eye(4)[which] * 2 + noise, [(lines[each],) for each in which.tolist()], which


def test_trained_towers_name_what_they_never_saw():
    features, lines, _ = colours()
    model = crossmodal.fit(towers(), features, lines, steps=150, batch_size=32, seed=1)
    again = crossmodal.fit(towers(), features, lines, steps=150, batch_size=32, seed=1)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    others, _, which = colours(5)
    prompts = {"dog": ["red dog", "blue dog"], "cup": ["cup"]}
    scores = crossmodal.zero_shot(model, others, prompts)
    found = torch.stack([scores["dog"], scores["cup"]]).argmax(0)
    assert (found == which // 2).double().mean() > 0.95
    assert model.log_scale.grad is not None
    assert not model.training


def test_training_knows_which_sentences_fit_several_pictures(monkeypatch):
    real, seen = crossmodal.contrastive_loss, []

    def watched(images, texts, scale, fits):
        seen.append(fits)
        return real(images, texts, scale, fits)

    monkeypatch.setattr(crossmodal, "contrastive_loss", watched)
    lines = [("a dog",), ("a dog", "a red dog"), ("a cup",), ("a blue cup", "a cup")]
    crossmodal.fit(towers(), torch.randn(4, 4), lines, steps=20, batch_size=4)
    assert {int(each.sum()) for each in seen} == {6, 7, 8}  # of pairs, by what is said
    assert all(bool(each.diag().all()) for each in seen)
    assert crossmodal.fitting(lines, ["a dog", "a red dog"]).tolist() == [
        [True, False], [True, True], [False, False], [False, False]
    ]  # fmt: skip


def test_the_scale_has_a_limit():
    model = towers()
    assert model.scale.item() == pytest.approx(1 / 0.07)
    model.log_scale.data.fill_(9.0)
    assert model.scale.item() == 100


IMAGES, TEXTS = pair(2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: crossmodal.contrastive_loss(IMAGES, TEXTS[:3], 1.0), "don't match"),
        (
            lambda: crossmodal.contrastive_loss(IMAGES, TEXTS, 1.0, torch.zeros(5, 5).bool()),
            "fits nothing",
        ),
        (
            lambda: crossmodal.contrastive_loss(IMAGES, TEXTS, 1.0, torch.eye(4).bool()),
            r"\(4, 4\); expected \(5, 5\)",
        ),
        (lambda: crossmodal.retrieval(torch.eye(3), at=(4,)), "expected 1 to 3"),
        (lambda: crossmodal.sentences({"food": "a pizza"}), "no support, table, light, view"),
        (lambda: towers().texts(["!"]), "no word"),
        (lambda: crossmodal.fit(towers(), IMAGES[:, :4], [("a dog",)]), "5 pictures and 1 desc"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises(StrategyError, match=words):
        call()
