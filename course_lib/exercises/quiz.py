"""Questions with options, each option explained.

A question shows itself as plain text or as HTML with one foldable explanation an option, which is
opened with mouse or keyboard, needs no script, and stays folded on paper: there the explanations
stand on a page of their own. The same question always gives the same learner the same bytes.
(Widgets such as jupyterquiz draw a random id at each display, and on paper show nothing.)
"""

import hashlib
import inspect
import string
from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.errors import CourseError
from course_lib.exercises import progress_file, prose


@dataclass(frozen=True)
class Option:
    """One option of a question.

    Attributes:
        text: what it says.
        why: why it is right, or what is wrong with it.
        right: whether it is the right one.
    """

    text: str
    why: str
    right: bool = False


class Question:
    """One question with several options, exactly one of them right.

    Args:
        number: chapter and place, such as ``"2.1"``; in a notebook it is then ``q2_1``.
        text: the question.
        options: two or more, in any order: see :attr:`options`.
    """

    def __init__(self, number: str, text: str, options: Sequence[Option]) -> None:
        self.number = number
        self.text = inspect.cleandoc(text)
        self._options = tuple(options)
        self._seen = False
        if sum(option.right for option in options) != 1 or len(options) < 2:
            raise CourseError(f"Question {number} needs two options or more, one of them right.")

    @property
    def name(self) -> str:
        """The question's name in a notebook, such as ``"q2_1"``."""
        return "q" + self.number.replace(".", "_")

    @property
    def options(self) -> dict[str, Option]:
        """The options by letter, shuffled for this learner, in the same way each time."""
        return self._shuffled(progress_file.learner())

    @property
    def printed(self) -> dict[str, Option]:
        """The options by letter as in the stored notebooks and on paper."""
        return self._shuffled("")

    def _shuffled(self, learner: str) -> dict[str, Option]:
        def place(option: Option) -> bytes:
            return hashlib.sha256(f"{learner}\0{self.number}\0{option.text}".encode()).digest()

        return dict(zip(string.ascii_lowercase, sorted(self._options, key=place), strict=False))

    @property
    def right(self) -> str:
        """The letter of the right option in :attr:`options`."""
        return next(letter for letter, option in self.options.items() if option.right)

    def answer(self, letter: object = None) -> None:
        """Tell whether an option is right, and why.

        Args:
            letter: such as ``"b"``; None or ``...`` means that you haven't answered yet.
        """
        title = f"Question {self.number}: not answered yet."
        text = f'Pick an option and write its letter: `{self.name}.answer("a")`'
        chosen = str(letter).strip().strip("().").lower()
        options = self.options
        if chosen in options and not self._seen and options != self.printed:
            text = f"Run the cell `{self.name}` first: your options have an order of their own."
        elif chosen in options:
            option = options[chosen]
            title = f"Question {self.number}, {chosen}: {'right' if option.right else 'not right'}."
            text = " ".join(option.why.split())
            progress_file.note_attempt(f"q{self.number}", option.right)
        elif letter is not None and letter is not ...:
            title = f"Question {self.number}: there is no such option."
            text = f"The options are {', '.join(options)}; you wrote `{chosen[:20]}`."
        prose.show(f"{title}\n{prose.to_plain(text)}", prose.boxed(title, text))

    def __repr__(self) -> str:
        self._seen = True
        text = f"{self.text}\n\n" + "\n".join(
            f"- {letter})  {option.text}" for letter, option in self.options.items()
        )
        ending = f'Your answer: {self.name}.answer("...")'
        return f"Question {self.number}\n{prose.to_plain(text)}\n{ending}"

    def _repr_html_(self) -> str:
        self._seen = True
        folded = "".join(
            f"<details><summary>{letter}) {prose.inline_html(option.text)}</summary>"
            f"<p>{'Right' if option.right else 'No'}. "
            f"{prose.inline_html(' '.join(option.why.split()))}</p></details>"
            for letter, option in self.options.items()
        )
        return (
            f"<div><p><strong>Question {self.number}</strong></p>{prose.to_html(self.text)}"
            f'{folded}<p style="margin-top: 1em">Open an option to read why it is right '
            "or wrong, or run "
            f'<code>{self.name}.answer("a")</code>.</p></div>'
        )
