"""What the ledger says to somebody with pictures and a question: rows of results, by situation."""

from dataclasses import dataclass

from course_lib.evidence.ledger import entry


@dataclass(frozen=True)
class Situation:
    """A question of somebody with pictures, and where in the ledger it was measured.

    Attributes:
        you_have: what they start from.
        compared: the two ways that were set against each other.
        claim: id of the experiment.
        contrast: its comparison of the two.
    """

    you_have: str
    compared: str
    claim: str
    contrast: str

    @property
    def row(self) -> str:
        """A line of the table: situation, ways, effect with its interval, verdict, on what."""
        line = entry(self.claim)
        found = next((each for each in line.effects if each.contrast.name == self.contrast), None)
        said = f"{found.text} | {found.says}" if found else "not run yet |"
        return f"| {self.you_have} | {self.compared} | {said} | {self.claim}: {line.measured_on} |"


SITUATIONS = (
    Situation("10 photographs, like ImageNet's", "pretrained, all layers − from scratch",
              "C18_photographs", "gain_10"),
    Situation("10 photographs, like ImageNet's", "head only − all layers",
              "C5_photographs", "very_few"),
    Situation("50 photographs", "head only − all layers", "C8_photographs", "accuracy_50"),
    Situation("200 photographs", "head only − all layers", "C8_photographs", "accuracy_200"),
    Situation("200 photographs, and time to hold BatchNorm", "head only − all layers, held",
              "C8_photographs", "held_200"),
    Situation("8 photographs of a thing that ImageNet knows", "head from its row − random head",
              "C9_photographs", "few"),
    Situation("100 photographs of a thing that ImageNet knows", "head from its row − random head",
              "C9_photographs", "from_100"),
    Situation("96 photographs and a classical classifier", "SVM − linear layer",
              "C17_photographs", "svm"),
    Situation("96 photographs and two networks", "features of both − of one",
              "C17_photographs", "joined"),
    Situation("the wrong mean and std, and a trained head", "wrong − right",
              "C11_photographs", "learned"),
    Situation("12 photographs", "features divided by one number − one by one",
              "scaling_photographs", "few"),
    Situation("8 of one class and 90 of the other", "classes weighted − as they are",
              "unequal_photographs", "few"),
    Situation("time for larger pictures", "head at 160 pixels − at 96",
              "size_photographs", "larger"),
    Situation("10 photographs and a related task with many", "two hops − one",
              "hops_photographs", "few"),
)  # fmt: skip


def by_situation() -> str:
    """The table as Markdown."""
    head = (
        "| you have | compared | gain in accuracy | verdict | measured on |\n|---|---|---|---|---|"
    )
    return "\n".join([head, *(each.row for each in SITUATIONS)])
