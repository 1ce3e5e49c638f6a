"""The chapters: their order, their questions, what each builds on. One list for map and README."""

from dataclasses import dataclass

from course_lib.paths import repo_root


@dataclass(frozen=True)
class Chapter:
    """One chapter of the course.

    Attributes:
        name: file name without ending, such as ``"02_hotdog"``.
        title: a few words.
        question: the one question that it answers.
        minutes: what a learner needs to read and run it; its exercises take about as long again.
        after: numbers of the chapters that it builds on.
        place: (x, y) on the course's map.
    """

    name: str
    title: str
    question: str
    minutes: int
    after: tuple[str, ...]
    place: tuple[float, float]

    @property
    def number(self) -> str:
        """The two digits in front."""
        return self.name[:2]

    @property
    def written(self) -> bool:
        """Whether the chapter is in this checkout."""
        return (repo_root() / "notebooks" / "source" / f"{self.name}.py").exists()


CHAPTERS = (
    Chapter(
        "00_start_here", "Start here", "Is this machine ready, and what comes in which order?",
        10, (), (0, 1),
    ),
    Chapter(
        "01_pretrain_finetune", "Pretrain,\nfine-tune", "What do pretrained weights know, and "
        "when does it help to start from them?", 40, ("00",), (1, 2),
    ),
    Chapter(
        "02_hotdog", "Hot dogs", "How do you fine-tune an ImageNet network on a few pictures of "
        "your own?", 60, ("00",), (1, 1),
    ),
    Chapter(
        "03_loading_weights", "Loading\nweights", "How do somebody else's weights get into your "
        "network, and how do you know that they did?", 60, ("02",), (1, 0),
    ),
    Chapter(
        "04_freezing", "Freezing\nlayers", "How do you keep part of a network exactly as it is?",
        75, ("02",), (2, 1),
    ),
    Chapter(
        "05_features", "Features,\nclassics", "How far do a frozen network's features and a "
        "classical classifier get you?", 50, ("01", "02"), (2, 2),
    ),
    Chapter(
        "06_staged", "Staged\nfine-tuning", "In which order, and how fast, should the layers "
        "learn?", 50, ("04", "05"), (3, 1),
    ),
    Chapter(
        "07_two_hops", "Two hops", "Is a task on the way worth it, and what does a network forget?",
        50, ("06",), (3, 0),
    ),
    Chapter(
        "08_strategies", "Strategies", "What do the strategies that other courses only name do, "
        "and when do they win?", 60, ("06",), (4, 0),
    ),
    Chapter(
        "09_adapters", "Adapters,\naverages", "What can you train beside frozen weights, and which "
        "weights do you keep in the end?", 50, ("06",), (4, 1),
    ),
    Chapter(
        "10_job", "A job", "How does a notebook become a job on many machines, and a network leave "
        "it?", 50, ("06",), (4, 2),
    ),
    Chapter(
        "11_claims", "The claims\nledger", "What is said about fine-tuning, and what came out when "
        "it was tried?", 20, ("06",), (3, 2),
    ),
)  # fmt: skip
