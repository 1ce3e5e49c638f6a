"""The teachers' plan: timetables for half a day, a day and two days, and what to skip."""

from collections.abc import Sequence
from dataclasses import dataclass

from course_lib.publishing.handouts import markdown
from course_lib.publishing.handouts.document import (
    Block,
    Document,
    Heading,
    Inline,
    Paragraph,
    Table,
    Text,
)


@dataclass(frozen=True)
class Slot:
    """One part of a day.

    Attributes:
        minutes: how long.
        what: what is done, in Markdown.
        skip: what to leave out, in Markdown; may be empty.
    """

    minutes: int
    what: str
    skip: str = ""


@dataclass(frozen=True)
class Day:
    """One day, or a part of one.

    Attributes:
        title: such as ``"Day 1"``.
        begins: minutes after midnight.
        slots: in order.
    """

    title: str
    begins: int
    slots: tuple[Slot, ...]

    @property
    def ends(self) -> int:
        """Minutes after midnight."""
        return self.begins + sum(slot.minutes for slot in self.slots)


@dataclass(frozen=True)
class Timetable:
    """A workshop of some length."""

    title: str
    aim: str
    days: tuple[Day, ...]


BREAK, LUNCH = Slot(15, "Break"), Slot(60, "Lunch")
NINE = 9 * 60

HALF_DAY = Timetable(
    "Half a day",
    "Everybody fine-tunes a real network, and sees that a frozen layer can move.",
    (
        Day(
            "Morning",
            NINE,
            (
                Slot(
                    15,
                    "**00** Welcome, machines ready, one cell run, exercise 0.1",
                    "The part on last digits",
                ),
                Slot(
                    55,
                    "**02** Pictures to *Fine-tuned against from scratch*; predictions aloud",
                    "The step that is compared with the book's; the sweep of rates",
                ),
                Slot(20, "**02** Exercises 2.3 and 2.4 in pairs, questions 2.1 to 2.3"),
                BREAK,
                Slot(
                    20,
                    "**02** *Freezing all but the head*, as a show; why it is faster",
                    '*Starting from the class "hotdog"*, Grad-CAM',
                ),
                Slot(
                    45,
                    "**04** *The audit*, *Five ways*, *The leak that the article misses*",
                    "*What stays behind*, *One table*, *What it saves*",
                ),
                Slot(25, "**04** Exercises 4.1 and 4.7, with the audit"),
                Slot(15, "What to take home: the course's cheat sheet, read together; questions"),
            ),
        ),
    ),
)

ONE_DAY = Timetable(
    "One day",
    "The hot dogs whole, loading without surprises, freezing that holds.",
    (
        Day(
            "The day",
            NINE,
            (
                Slot(15, "**00** Welcome, machines ready, exercise 0.1"),
                Slot(
                    70,
                    "**02** From the pictures to the sweep of rates",
                    "Grad-CAM: show the figure only",
                ),
                BREAK,
                Slot(30, "**02** Exercises 2.3, 2.4 and 2.5; questions"),
                Slot(
                    35,
                    "**02** *Freezing all but the head*, *Starting from the class "
                    '"hotdog"*, mistakes',
                    "The derivation of the bias: tell the result",
                ),
                Slot(
                    30,
                    "**01** *The words*, *The four cases*, *When it hurts*, as a talk with "
                    "the figures",
                    "All exercises; the probe at every depth; three kinds",
                ),
                LUNCH,
                Slot(
                    50,
                    "**03** State dict, strict and matched, *A loader that tells*, six errors",
                    "*From another framework*, *Does loading take long?*",
                ),
                Slot(25, "**03** Exercises 3.1, 3.2 and 3.3"),
                BREAK,
                Slot(
                    55,
                    "**04** *The audit* to *Freezing that holds*, then *One table*",
                    "*What it saves*: tell the three thirds",
                ),
                Slot(35, "**04** Exercises 4.1, 4.3 and 4.7; questions"),
                Slot(25, "Own pictures: *Your own picture* in **02**, or the recipe of **06**"),
                Slot(15, "The cheat sheets, read together; what to do on Monday"),
            ),
        ),
    ),
)

TWO_DAYS = Timetable(
    "Two days",
    "The whole course, with the exercises that take longer, and a project with own pictures.",
    (
        Day(
            "Day 1: weights, and what they bring",
            NINE,
            (
                Slot(15, "**00** Welcome, machines ready, exercise 0.1"),
                Slot(70, "**02** From the pictures to the sweep of rates"),
                BREAK,
                Slot(45, "**02** Exercises 2.1 to 2.6 in pairs; questions"),
                Slot(40, "**02** The head alone, row 934, mistakes, Grad-CAM"),
                LUNCH,
                Slot(60, "**01** *The words* to *When it hurts*, predictions aloud",
                     "*How far do the weights travel?* if time is short"),
                Slot(35, "**01** *The four cases*, *Which layers to keep*; what an interval says"),
                BREAK,
                Slot(30, "**01** Exercises 1.1, 1.2 and 1.5; questions",
                     "1.6 and 1.7: for the evening"),
                Slot(60, "**03** State dict to *A loader that tells*; six errors; exercises 3.1 "
                     "to 3.3", "*From another framework*"),
                Slot(15, "What was new today? Pictures for tomorrow's project"),
            ),
        ),
        Day(
            "Day 2: freezing, features, stages, a project",
            NINE,
            (
                Slot(75, "**04** From the small model to *One table*"),
                BREAK,
                Slot(45, "**04** Exercises 4.1 to 4.4 and 4.7; questions",
                     "4.8: for those who are early"),
                Slot(45, "**05** Features, the cache, one linear layer, how many examples",
                     "*Who has the say?*: tell the three answers"),
                LUNCH,
                Slot(20, "**05** Exercises 5.1, 5.3 and 5.7"),
                Slot(50, "**06** Why the head first, rates, learning rate 0, BatchNorm, the recipe",
                     "*Sum or mean*, if 02 was done in full"),
                BREAK,
                Slot(80, "Project in pairs: own pictures or bundled ones, by the nine steps at the "
                     "end of **01**; a frozen head first, then the recipe"),
                Slot(20, "Each pair says: what was expected, what came out, what to check?"),
                Slot(15, "**09** The ledger: which rules held? Close"),
            ),
        ),
    ),
)  # fmt: skip

TIMETABLES = (HALF_DAY, ONE_DAY, TWO_DAYS)

BEFORE = """
The course fits a workshop because every page runs offline in about a minute, and every exercise
answers by itself. You walk round, and talk about why.

## Before the day

- **Machines.** Run `course doctor` on one of each kind. `course bundle FOLDER` packs wheels,
  weights and data for a room without a network; do it a week before, and try it on a fresh machine.
- **Paper.** For everybody: the student editions of the chapters that you do, the sheet of each, the
  course's sheet. For you: the teacher editions. Print in black and white, two sides.
- **Notebooks.** They are stored executed: whoever falls behind still has all results. Nobody has to
  wait for a cell to follow the talk.
- **Pairs.** Two people at a machine ask each other what you would have to ask thirty times.

## How to hold a chapter

1. **Predict aloud.** Collect three numbers from the room before you run the cell. Write them down
   where all can see them. This is the cheapest minute of the day.
2. **Run, then be silent.** Let somebody else say what happened.
3. **Explain against the prediction**, not against the text.
4. **Exercises on paper first**, five minutes, then at the keyboard. `check` says what is wrong;
   `hint` is for those who are stuck, `solution` for the last minute.
5. **Close with the five lines** of the chapter's summary.

## What goes wrong in a room

| what | what to do |
|---|---|
| the kernel is another Python | start with `course lab`; `course doctor` tells |
| numbers differ in the last digits | say why (chapter 00); compare verdicts, not digits |
| a cell fails since one before it wasn't run | restart the kernel and run all |
| somebody is done early | the exercises at the end of each list are the longest |
| somebody is lost | the summary and the cheat sheet, then the next chapter from its start |
"""


def clock(minutes: int) -> str:
    """Minutes after midnight as a time of day."""
    return f"{minutes // 60}:{minutes % 60:02d}"


def make() -> Document:
    """The plan as a document."""
    blocks: list[Block] = list(markdown.read(BEFORE))
    for timetable in TIMETABLES:
        blocks += [Heading(2, (Text(timetable.title),)), Paragraph((Text(timetable.aim),))]
        for day in timetable.days:
            if len(timetable.days) > 1:
                blocks.append(Heading(3, (Text(day.title),)))
            blocks.append(_table(day.begins, day.slots))
    return Document(
        "Teachers' plan", "teacher edition", "Half a day, a day, two days, and what to skip",
        tuple(blocks),
    )  # fmt: skip


def _table(begins: int, slots: Sequence[Slot]) -> Table:
    rows: list[tuple[tuple[Inline, ...], ...]] = []
    now = begins
    for slot in slots:
        rows.append(
            (
                (Text(clock(now)),),
                (Text(str(slot.minutes)),),
                markdown.read_line(slot.what),
                markdown.read_line(slot.skip) if slot.skip else (),
            )
        )
        now += slot.minutes
    rows.append(((Text(clock(now)),), (), (Text("End"),), ()))
    header = ((Text("at"),), (Text("min"),), (Text("what"),), (Text("skip"),))
    return Table(header, tuple(rows), (True, True, False, False))
