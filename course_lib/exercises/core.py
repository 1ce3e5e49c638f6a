"""One exercise: a question, a stub to fill in, a check by behaviour, hints, a solution.

An exercise is declared once, in a module such as ``chapter_02``. The notebook shows its stub, the
learner fills it in and passes the result to :meth:`Exercise.check`. Nothing compares source text:
a judge runs the answer and looks at what it does, so every right answer passes.

Checking leaves everything as it was: values are judged on a deep copy, random streams and torch's
settings are put back. And it never raises: an error in the learner's code is told with its line.
"""

import ast
import contextlib
import copy
import inspect
import linecache
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any

import torch

from course_lib import profile
from course_lib.errors import CourseError
from course_lib.exercises import progress_file, prose
from course_lib.exercises.verdicts import (
    NOT_ATTEMPTED_YET,
    NOT_YET,
    PASSED,
    STOPPED,
    Unfinished,
    Verdict,
    named,
)

COLOURS = {PASSED: "#009E73", NOT_YET: "#D55E00", STOPPED: "#D55E00", NOT_ATTEMPTED_YET: "#0072B2"}
PREAMBLE = "import copy\n\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
SEED = 20  # every check starts its random streams here, so that checking twice says the same


class _NotAttempted:
    """The type of :data:`NOT_ATTEMPTED`."""

    def __repr__(self) -> str:
        return "NOT_ATTEMPTED"

    def __deepcopy__(self, memo: dict[int, Any]) -> "_NotAttempted":
        return self


NOT_ATTEMPTED = _NotAttempted()
BLANKS = (None, ..., NOT_ATTEMPTED)


@dataclass(frozen=True)
class Wrong:
    """An answer that people often give, and what they should then read.

    Attributes:
        name: how the judge calls it.
        code: such an answer; the tests run it.
        message: what is wrong with it, and why.
        raises: a regular expression: when the answer stops with an error whose text fits it, the
            message is added to the report of that error.
    """

    name: str
    code: str
    message: str
    raises: str | None = None


class Exercise:
    """One exercise of a chapter.

    Args:
        number: chapter and place, such as ``"2.1"``; in a notebook it is then ``ex2_1``.
        title: a few words.
        minutes: how long it takes most people.
        question: what to do, in the little Markdown of :mod:`course_lib.exercises.prose`.
        answer: what the learner passes to ``check``: the name that the stub defines.
        stub: code to start from.
        solution: code that answers it.
        why: what to understand about the solution.
        hints: from a nudge to nearly the answer.
        wrongs: the most likely wrong answers.
        judge: looks at an answer's behaviour. It may raise Unfinished to end early.
        preamble: imports that stub and solution rely on.
        function: whether the answer is a function (most are), or else a value.
    """

    def __init__(
        self,
        number: str,
        title: str,
        *,
        minutes: int,
        question: str,
        answer: str,
        stub: str,
        solution: str,
        why: str,
        hints: Sequence[str],
        wrongs: Sequence[Wrong],
        judge: Callable[[Any], Verdict],
        preamble: str = PREAMBLE,
        function: bool = True,
    ) -> None:
        self.number = number
        self.title = title
        self.minutes = minutes
        self.question = inspect.cleandoc(question)
        self.answer = answer
        self.stub = stub.strip("\n")
        self.solution_code = solution.strip("\n")
        self.why = inspect.cleandoc(why)
        self.hints = tuple(" ".join(hint.split()) for hint in hints)
        self.wrongs = {
            wrong.name: replace(
                wrong, code=wrong.code.strip("\n"), message=inspect.cleandoc(wrong.message)
            )
            for wrong in wrongs
        }
        self.preamble = preamble
        self.function = function
        self._judge = judge
        self._hints_shown = 0
        if len(self.wrongs) != len(wrongs):
            raise CourseError(f"Exercise {number} has two wrong answers of one name.")

    @property
    def name(self) -> str:
        """The exercise's name in a notebook, such as ``"ex2_1"``."""
        return "ex" + self.number.replace(".", "_")

    @property
    def heading(self) -> str:
        """Number, title and minutes on one line."""
        return f"Exercise {self.number}: {self.title} ({self.minutes} minutes)"

    def cell(self, code: str | None = None) -> str:
        """The notebook's code cell for this exercise: the stub, or other code, and the check."""
        return f"{(code or self.stub).strip()}\n\n\n{self.name}.check({self.answer})"

    def answer_from(self, code: str) -> Any:
        """Run code such as the solution, in a namespace of its own; return its answer."""
        source = f"<{self.name}:{abs(hash(code))}>"
        linecache.cache[source] = (len(code), None, code.splitlines(keepends=True), source)
        namespace: dict[str, Any] = {"__name__": source}
        exec(self.preamble, namespace)
        exec(compile(code, source, "exec"), namespace)
        return eval(self.answer, namespace)

    def check(self, answer: Any = NOT_ATTEMPTED) -> Verdict:
        """Tell whether an answer is right, and if not, what about it isn't.

        Args:
            answer: yours. It isn't changed.

        Returns:
            The verdict, which has been shown already.
        """
        verdict = self.verdict(answer)
        if verdict.kind != NOT_ATTEMPTED_YET:
            progress_file.note_attempt(self.number, verdict.passed)
        title = f"Exercise {self.number}: {verdict.kind}."
        message = verdict.message
        if verdict.kind != PASSED:
            message += f"\n\nHints, one at each call: `{self.name}.hint()`"
        prose.show(
            f"{title}\n{prose.to_plain(message)}",
            prose.boxed(title, message, COLOURS[verdict.kind]),
        )
        return verdict

    def verdict(self, answer: Any = NOT_ATTEMPTED) -> Verdict:
        """The same as :meth:`check`, without showing or noting anything."""
        if self._untouched(answer):
            return Verdict(
                NOT_ATTEMPTED_YET,
                f"That is fine. When you want to try, change the cell where `{self.answer}` "
                "is made, and run it again.",
            )
        with _everything_restored():
            try:
                self._refuse_wrong_kind(answer)
                mine = answer if isinstance(answer, FunctionType) else _copied(answer)
                verdict = self._judge(mine)
            except Unfinished as reply:
                return Verdict(NOT_YET, str(reply) if self.function else reply.of_value)
            except NotImplementedError as error:
                if learner_line(error.__traceback__) is None:
                    return self._stopped(error)
                return Verdict(
                    NOT_ATTEMPTED_YET, "Your code says so itself: it raises NotImplementedError."
                )
            except Exception as error:
                return self._stopped(error)
        if verdict.mistake is not None:
            return Verdict(verdict.kind, self.wrongs[verdict.mistake].message, verdict.mistake)
        return verdict

    def hint(self) -> None:
        """Show one hint more at each call, below those you have seen."""
        total = len(self.hints)
        more = self._hints_shown < total
        self._hints_shown = min(self._hints_shown + 1, total)
        progress_file.note_hints(self.number, self._hints_shown)
        seen = [
            f"Hint {place} of {total}: {hint}"
            for place, hint in enumerate(self.hints[: self._hints_shown], start=1)
        ]
        if not more:
            seen.append(f"There are no more hints. The solution: `{self.name}.solution()`")
        text = "\n\n".join(seen)
        title = f"Exercise {self.number}: {self.title}"
        prose.show(f"{title}\n{prose.to_plain(text)}", prose.boxed(title, text))

    def solution(self) -> None:
        """Show one solution and why it is one, so that it folds away. Yours may be another."""
        progress_file.note_solution(self.number)
        code = "\n".join(f"    {line}".rstrip() for line in self.solution_code.splitlines())
        text = f"{code}\n\n{self.why}"
        title = f"Exercise {self.number}: a solution"
        prose.show(f"{title}\n\n{prose.to_plain(text)}", prose.boxed(title, text, folds=True))

    def __repr__(self) -> str:
        return f"{self.heading}\n{prose.to_plain(self.question)}"

    def _repr_html_(self) -> str:
        return prose.boxed(self.heading, self.question)

    def _untouched(self, answer: Any) -> bool:
        """Whether the answer is nothing, or what the stub gives."""
        if any(answer is blank for blank in BLANKS):
            return True
        if isinstance(answer, list | tuple) and answer:
            return all(each is ... for each in answer)
        if isinstance(answer, FunctionType):
            stub = self.answer_from(self.stub)
            return isinstance(stub, FunctionType) and same_function(answer, stub)
        return False

    def _refuse_wrong_kind(self, answer: Any) -> None:
        if self.function and not callable(answer):
            raise Unfinished(
                f"This exercise wants the function itself, without parentheses: "
                f"`{self.name}.check({self.answer})`. What came was {named(answer)}."
            )
        if not self.function and isinstance(answer, FunctionType):
            raise Unfinished(
                "This exercise wants a value, and what came was a function. Call it, and pass "
                "on what it returns."
            )

    def _stopped(self, error: Exception) -> Verdict:
        """Tell an error without a traceback: what, where, and what it may mean."""
        text = f"{type(error).__name__}: {_shortened(str(error))}"
        line = learner_line(error.__traceback__)
        if line is None:
            report = "Your code ran, but what it gave could not be used. "
        else:
            report = f"Your code stopped in line {line[0]}"
            report += f":\n\n    {line[1]}\n\n" if line[1] else ". "
        report += f"The error was `{text.replace('`', chr(39))}`"
        for wrong in self.wrongs.values():
            if wrong.raises and re.search(wrong.raises, f"{type(error).__name__}: {error}"):
                return Verdict(STOPPED, f"{report}\n\n{wrong.message}", wrong.name)
        return Verdict(STOPPED, f"{report}{_advice(error)}")


def same_function(one: FunctionType, other: FunctionType) -> bool:
    """Whether two functions are written the same, but for comments and layout.

    Where the source is gone, the bytecode decides.
    """
    try:
        trees = [ast.parse(textwrap.dedent(inspect.getsource(each))) for each in (one, other)]
    except (OSError, SyntaxError, TypeError):
        return _same_code(one.__code__, other.__code__)
    return ast.dump(trees[0]) == ast.dump(trees[1])


def _same_code(one: CodeType, other: CodeType) -> bool:
    if (one.co_code, one.co_names) != (other.co_code, other.co_names):
        return False
    if len(one.co_consts) != len(other.co_consts):
        return False
    return all(
        _same_code(mine, theirs) if isinstance(mine, CodeType) and isinstance(theirs, CodeType)
        else (type(mine), mine) == (type(theirs), theirs)
        for mine, theirs in zip(one.co_consts, other.co_consts, strict=True)
    )  # fmt: skip


_LIBRARIES = tuple(
    {str(Path(__file__).resolve().parent.parent), str(Path(torch.__file__).resolve().parent)}
    | {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")}
)


def learner_line(traceback: TracebackType | None) -> tuple[int, str] | None:
    """Number and text of the last line of the learner's own that ran; None if there was none."""
    found = None
    while traceback is not None:
        path = traceback.tb_frame.f_code.co_filename
        if not path.startswith(("<frozen", *_LIBRARIES)):
            found = path, traceback.tb_lineno
        traceback = traceback.tb_next
    return (found[1], linecache.getline(*found).strip()) if found else None


def _shortened(text: str, longest: int = 300) -> str:
    """An error's text on one line; of a long one the beginning."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest].rstrip()} ..."


def _advice(error: Exception) -> str:
    """What errors that everybody meets usually mean."""
    text = str(error)
    if isinstance(error, NameError):
        return "\n\nA name isn't defined: was the cell run that defines or imports it?"
    if isinstance(error, TypeError) and "positional argument" in text:
        return "\n\nKeep the arguments of your function as they were in the cell you started from."
    if "does not require grad" in text:
        return (
            "\n\nNothing that the loss depends on is trainable, so there is nothing to compute "
            "gradients for. Is everything frozen?"
        )
    if "shapes cannot be multiplied" in text:
        return "\n\nA linear layer got more or fewer numbers than its `in_features`."
    return ""


def _copied(answer: Any) -> Any:
    """A deep copy, since judging may train the answer."""
    try:
        return copy.deepcopy(answer)
    except Exception as error:
        raise Unfinished(
            f"What came was {named(answer)}, which can't be copied, and an answer is only looked "
            "at as a copy. If it is a generator, pass on a list of what it gives."
        ) from error


@contextlib.contextmanager
def _everything_restored() -> Iterator[None]:
    """Fixed random streams inside; afterwards streams and torch's settings as they were."""
    dtype = torch.get_default_dtype()
    with profile.own_streams(SEED), torch.enable_grad():
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
