"""What the ledger says to somebody with pictures and a question: rows of results, by situation."""

from dataclasses import dataclass

from course_lib.evidence.ledger import entry

OPEN = "either: not told apart"


@dataclass(frozen=True)
class Situation:
    """A question of somebody with pictures, and where in the ledger it was measured.

    Attributes:
        you_have: what they start from.
        first: a way to go on.
        second: the other way.
        claim: id of the experiment.
        contrast: its comparison, the first way's accuracy minus the second's.
    """

    you_have: str
    first: str
    second: str
    claim: str
    contrast: str

    @property
    def row(self) -> str:
        """A line of the table: situation, what to do, the other way, effect, on what."""
        line = entry(self.claim)
        found = next((each for each in line.effects if each.contrast.name == self.contrast), None)
        if found is None:
            return f"| {self.you_have} | not measured yet | | | {self.claim} |"
        low, high = found.interval.low, found.interval.high
        do, other, sign = OPEN, f"{self.first}, or {self.second}", ""
        if low > 0 or high < 0:
            do, other = (self.first, self.second) if low > 0 else (self.second, self.first)
            sign = "" if low > 0 else " (the second minus the first)"
        return (
            f"| {self.you_have} | **{do}** | {other} | {found.text}{sign} | {self.claim}: "
            f"{line.measured_on} |"
        )


HEAD, ALL = "train the head only", "train all layers"
SITUATIONS = (
    Situation("10 photographs", ALL, "train from scratch", "C18_photographs", "gain_10"),
    Situation("10 photographs", HEAD, ALL, "C5_photographs", "very_few"),
    Situation("50 photographs", HEAD, ALL, "C8_photographs", "accuracy_50"),
    Situation("50 photographs", "freeze the first blocks", HEAD, "C5_photographs", "medium_head"),
    Situation("200 photographs", HEAD, ALL, "C8_photographs", "accuracy_200"),
    Situation("200 photographs, BatchNorm held", HEAD, ALL, "C8_photographs", "held_200"),
    Situation("8 photographs of a thing that ImageNet knows", "start the head from its row",
              "start at random", "C9_photographs", "few"),
    Situation("100 photographs of a thing that ImageNet knows", "start the head from its row",
              "start at random", "C9_photographs", "from_100"),
    Situation("96 photographs, features", "an SVM", "a linear layer", "C17_photographs", "svm"),
    Situation("96 photographs, features", "of two networks", "of one", "C17_photographs", "joined"),
    Situation("the numbers for mean and std of another network", "use them",
              "use the network's own", "C11_photographs", "learned"),
    Situation("12 photographs, features", "divide all by one number", "scale one by one",
              "scaling_photographs", "few"),
    Situation("8 of one class and 90 of the other", "weigh the classes", "leave them",
              "unequal_photographs", "few"),
    Situation("100 photographs and time", "take 160 pixels", "take 96", "size_photographs",
              "larger"),
    Situation("10 photographs, and many of a related task", "two hops", "one hop",
              "hops_photographs", "few"),
)  # fmt: skip


def by_situation() -> str:
    """The table as Markdown."""
    head = "| you have | do | and not | gain in accuracy | on |\n|---|---|---|---|---|"
    return "\n".join([head, *(each.row for each in SITUATIONS)])
