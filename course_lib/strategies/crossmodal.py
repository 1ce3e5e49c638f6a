"""Pictures and sentences in one space: a small CLIP.

Two towers, one for pictures and one for sentences, end in vectors of the same width. A contrastive
loss pulls together what belongs together and pushes the rest of the batch apart. Afterwards a class
needs no labelled pictures: a sentence names it.

* A. Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, ICML
  2021, arXiv:2103.00020.
* Several sentences that fit one picture: J. Yang et al.: Unified Contrastive Learning in
  Image-Text-Label Space, CVPR 2022, arXiv:2204.03610.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.errors import UnknownNameError, suggest
from course_lib.profile import seeded_generator
from course_lib.strategies.inserts import StrategyError

LARGEST_SCALE = 100.0  # as in the paper


def sentences(scene: Mapping[str, str]) -> tuple[str, str, str]:
    """Three sentences for a drawn picture, each with more in it: food, what is below, the whole.

    Args:
        scene: from the manifest of the bundled pictures: food, support, table, light, view.

    Raises:
        StrategyError: a part of the scene is missing.
    """
    missing = [each for each in ("food", "support", "table", "light", "view") if each not in scene]
    if missing:
        raise StrategyError(
            f"The scene has no {', '.join(missing)}. Take scenes from the bundled manifest."
        )
    below = scene["support"]
    if below == "nothing under the food":
        below = "the bare table"
    elif "plate" in below or "board" in below or "tray" in below or "basket" in below:
        below = f"a {below}"
    food = scene["food"]
    whole = f"{food} on {below}, {scene['table']}, {scene['view']}, {scene['light']}"
    return food, f"{food} on {below}", whole


def words_of(sentence: str) -> list[str]:
    """The words of a sentence in small letters, without commas and the like."""
    return re.findall(r"[a-z]+", sentence.lower())


def contrastive_loss(
    images: Tensor, texts: Tensor, scale: Tensor | float, fits: Tensor | None = None
) -> Tensor:
    """Cross-entropy of which text belongs to a picture and which picture to a text; their mean.

    Args:
        images: (N, D), any length; they are brought to length 1.
        texts: (N, D), row i belongs to picture i.
        scale: what cosines are multiplied by: one over the temperature.
        fits: (N, N) bool, which text (column) fits which picture (row), where more than one does;
            each of them is then right in equal parts. By default only row i and column i.

    Returns:
        The loss, ().

    Raises:
        StrategyError: shapes that don't match, or a picture or text that nothing fits.
    """
    if images.shape != texts.shape or images.ndim != 2:
        raise StrategyError(
            f"Pictures {tuple(images.shape)} and texts {tuple(texts.shape)} don't match; expected "
            "both (N, D), row i of one belonging to row i of the other."
        )
    scores = scale * F.normalize(images) @ F.normalize(texts).T
    right = torch.eye(len(scores)) if fits is None else _checked(fits, scores)
    right = right.to(scores)
    by_picture = F.cross_entropy(scores, right / right.sum(1, keepdim=True))
    by_text = F.cross_entropy(scores.T, right.T / right.T.sum(1, keepdim=True))
    return (by_picture + by_text) / 2


class TwoTowers(nn.Module):
    """A linear map of frozen features, and one of the mean of a sentence's word vectors.

    Args:
        inputs: numbers in a picture's features.
        words: all words that it will know.
        width: of the space in which both meet.
    """

    def __init__(self, inputs: int, words: Sequence[str], width: int = 64) -> None:
        super().__init__()
        self.words = {word: row for row, word in enumerate(sorted(set(words)))}
        self.picture_tower = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width))
        self.word_vectors = nn.EmbeddingBag(len(self.words), width, mode="mean")
        self.text_map = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by; learned, at most 100."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def pictures(self, features: Tensor) -> Tensor:
        """Features (N, inputs) to vectors (N, width) of length 1."""
        return F.normalize(self.picture_tower(features))

    def texts(self, lines: Sequence[str]) -> Tensor:
        """N sentences to vectors (N, width) of length 1.

        Raises:
            UnknownNameError: a word that was not in the vocabulary.
            StrategyError: a sentence without a word.
        """
        rows = [self._rows(line) for line in lines]
        place = self.log_scale.device
        starts = torch.tensor([0, *(len(each) for each in rows[:-1])], device=place).cumsum(0)
        flat = torch.tensor([row for each in rows for row in each], device=place)
        return F.normalize(self.text_map(self.word_vectors(flat, starts)))

    def forward(self, features: Tensor, lines: Sequence[str]) -> Tensor:
        """How alike N pictures and M sentences are, as cosines: (N, M)."""
        return self.pictures(features) @ self.texts(lines).T

    def _rows(self, line: str) -> list[int]:
        found = words_of(line)
        unknown = [word for word in found if word not in self.words]
        if unknown:
            raise UnknownNameError(
                f"{line!r} has words that were in no training sentence: {', '.join(unknown)}. "
                f"Say it in known words.{suggest(unknown[0], self.words)}"
            )
        if not found:
            raise StrategyError(f"The sentence {line!r} has no word; expected one or more.")
        return [self.words[word] for word in found]


def fit(
    towers: TwoTowers,
    features: Tensor,
    lines: Sequence[Sequence[str]],
    *,
    steps: int = 300,
    rate: float = 0.003,
    decay: float = 0.1,
    batch_size: int = 64,
    seed: int = 0,
) -> TwoTowers:
    """Train both towers with AdamW; each picture comes with one of its sentences, by chance.

    A sentence in the batch that is also among another picture's own counts as fitting that one.

    Args:
        towers: trained in place.
        features: (N, inputs) of the pictures.
        lines: for each picture, the sentences that describe it.
        steps: how many batches.
        rate: learning rate.
        decay: weight decay.
        batch_size: pairs in a batch.
        seed: of order and choice.

    Raises:
        StrategyError: not as many sentences as pictures.
        UnknownNameError: a word that the towers don't know.
    """
    if len(features) != len(lines):
        raise StrategyError(f"There are {len(features)} pictures and {len(lines)} descriptions.")
    stream = seeded_generator(seed)
    optimizer = torch.optim.AdamW(towers.parameters(), lr=rate, weight_decay=decay)
    towers.train()
    for _ in range(steps):
        rows = torch.randperm(len(lines), generator=stream)[:batch_size]
        which = torch.randint(1 << 20, (len(rows),), generator=stream).tolist()
        said = [lines[i][n % len(lines[i])] for i, n in zip(rows.tolist(), which, strict=True)]
        loss = contrastive_loss(
            towers.pictures(features[rows]),
            towers.texts(said),
            towers.scale,
            fitting([lines[row] for row in rows.tolist()], said),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return towers.eval()


def fitting(lines: Sequence[Sequence[str]], said: Sequence[str]) -> Tensor:
    """Which of M sentences are among those that describe each of N pictures: (N, M) bool."""
    return torch.tensor([[line in known for line in said] for known in lines])


class Recall(NamedTuple):
    """How often one that fits is among the first k, and how often it would be by chance."""

    found: float
    chance: float


def retrieval(
    similarity: Tensor, fits: Tensor | None = None, at: Sequence[int] = (1, 5)
) -> dict[int, Recall]:
    """Recall at k: for each row, is a column that fits among the k most similar?

    Args:
        similarity: (N, M), rows ask, columns are searched; transpose it for the other way.
        fits: (N, M) bool; by default row i and column i, for as many rows as columns.
        at: the numbers k.

    Raises:
        StrategyError: shapes that don't match, a row that nothing fits, or k beyond 1 to M.
    """
    right = _checked(torch.eye(len(similarity)) if fits is None else fits, similarity).bool()
    right = right.to(similarity.device)
    columns = similarity.shape[1]
    if not all(1 <= k <= columns for k in at):
        raise StrategyError(f"k is one of {tuple(at)}; expected 1 to {columns}, the columns.")
    order = similarity.argsort(dim=1, descending=True, stable=True)
    hits = right.gather(1, order)
    return {
        k: Recall(
            float(hits[:, :k].any(1).double().mean()),
            sum(1 - math.comb(columns - int(n), k) / math.comb(columns, k) for n in right.sum(1))
            / len(right),
        )
        for k in at
    }


@torch.no_grad()
def zero_shot(
    towers: TwoTowers, features: Tensor, prompts: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """Cosine with each class, described in words: name to (N,).

    Args:
        towers: trained.
        features: (N, inputs) of the pictures.
        prompts: name of the class to its sentences, whose vectors are averaged.

    Raises:
        UnknownNameError: a word that was not in training.
    """
    found = towers.pictures(features)
    return {
        name: found @ F.normalize(towers.texts(lines).mean(0), dim=0)
        for name, lines in prompts.items()
    }


def _checked(fits: Tensor, scores: Tensor) -> Tensor:
    if fits.shape != scores.shape:
        raise StrategyError(
            f"fits has the shape {tuple(fits.shape)}; expected {tuple(scores.shape)}, a row for "
            "each picture and a column for each text."
        )
    if not bool(fits.any(1).all()) or (len(fits) == fits.shape[1] and not bool(fits.any(0).all())):
        raise StrategyError("Something fits nothing; expected at least one match for each.")
    return fits
