"""Exercises and questions of chapter 10: from the notebook to a job."""

import math
import tempfile
from pathlib import Path
from typing import Any

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import (
    Unfinished,
    Verdict,
    close,
    mistake,
    not_yet,
    number,
    passed,
)

# --- 10.1 -----------------------------------------------------------------------------------------


def _judge_share(answer: Any) -> Verdict:
    for n, world in ((12, 3), (13, 2), (13, 4), (2, 3), (0, 2)):
        shares = [_indices(answer(n, rank, world)) for rank in range(world)]
        every = sorted(index for share in shares for index in share)
        if every == list(range(n)):
            if max(map(len, shares)) > math.ceil(n / world):
                return not_yet(f"{n} pictures over {world} processes: one gets more than its part.")
            continue
        where = f"{n} pictures over {world} processes"
        if len(every) > len(set(every)) and set(every) >= set(range(n)):
            return mistake("padded")
        if set(every) < set(range(n)):
            return mistake("dropped")
        return not_yet(f"{where}: together they measure {every}.")
    return passed(
        "Each picture once. The parts differ by one at most, and nobody waits for anybody."
    )


def _indices(value: Any) -> list[int]:
    try:
        return [int(each) for each in value]
    except (TypeError, ValueError) as error:
        raise Unfinished("Return the numbers of the pictures: a list of whole numbers.") from error


ex10_1 = Exercise(
    "10.1",
    "Every picture once",
    minutes=6,
    question="""
        Several processes measure a network on `n` pictures together, numbered from 0. Return the
        numbers of those that process `rank` of `world` measures: each picture by exactly one
        process, and none with more than one picture more than another.
    """,
    answer="own_share",
    stub="""
def own_share(n, rank, world):
    return ...
""",
    solution="""
def own_share(n, rank, world):
    return list(range(rank, n, world))
""",
    why="""
        Every `world`-th picture, begun at `rank`. In training, all processes must have equally many
        batches, since they wait for each other; so `DistributedSampler` fills up with pictures that
        are there twice. In measuring that would count some pictures twice.
    """,
    hints=(
        "With 13 pictures and 4 processes, one process has 4 pictures and three have 3.",
        "Deal them out like cards.",
        "`range` takes a start, an end and a step.",
    ),
    wrongs=(
        Wrong(
            "padded",
            """
def own_share(n, rank, world):
    each = -(-n // world)
    return [(rank + world * i) % n for i in range(each)] if n else []
""",
            """Some pictures are measured twice: that is how DistributedSampler makes all parts
            equally long. In an accuracy these pictures would count double.""",
        ),
        Wrong(
            "dropped",
            """
def own_share(n, rank, world):
    each = n // world
    return list(range(rank * each, (rank + 1) * each))
""",
            """The last pictures are measured by nobody, if the number can't be divided. Which they
            are depends on how many processes there are, and so would your accuracy.""",
        ),
    ),
    judge=_judge_share,
)

# --- 10.2 -----------------------------------------------------------------------------------------


def _judge_interval(answer: Any) -> Verdict:
    for save, hours, devices in ((10.0, 10_000.0, 1), (20.0, 5_000.0, 8), (60.0, 20_000.0, 512)):
        found = number(answer(save, hours, devices), "a number of seconds")
        expected = math.sqrt(2 * save * hours * 3600 / devices)
        if close(found, expected):
            continue
        if close(found, math.sqrt(2 * save * hours * 3600)):
            return mistake("one_device")
        if close(found, math.sqrt(2 * save * hours / devices)):
            return mistake("hours")
        if close(found, math.sqrt(save * hours * 3600 / devices)):
            return mistake("no_two")
        return not_yet(
            f"For {save:g} s, {hours:g} hours and {devices} devices it gives {found:g}; expected "
            f"about {expected:.0f} s."
        )
    return passed("The more devices, the more often: by the root of their number.")


ex10_2 = Exercise(
    "10.2",
    "How often to save",
    minutes=8,
    question="""
        A checkpoint takes `save_seconds`. A device fails once in `hours` hours on average, and when
        one fails, the job of all `devices` stops. Return the interval between checkpoints, in
        seconds, that loses least, by Young's formula.
    """,
    answer="interval",
    stub="""
def interval(save_seconds, hours, devices):
    return ...
""",
    solution="""
def interval(save_seconds, hours, devices):
    between_failures = hours * 3600 / devices
    return (2 * save_seconds * between_failures) ** 0.5
""",
    why="""
        Saving costs `save / interval` of the time, and a failure loses half an interval on average:
        `interval / 2 / between_failures`. The sum is lowest where both are equal.
    """,
    hints=(
        "First find the mean time between two failures of the *job*, in seconds.",
        "Twice as many devices fail twice as often.",
        "The root of 2 x saving x time between failures.",
    ),
    wrongs=(
        Wrong(
            "one_device",
            """
def interval(save_seconds, hours, devices):
    return (2 * save_seconds * hours * 3600) ** 0.5
""",
            "That is for one device. The job stops when any of them fails.",
        ),
        Wrong(
            "hours",
            """
def interval(save_seconds, hours, devices):
    return (2 * save_seconds * hours / devices) ** 0.5
""",
            "One time is in seconds and the other in hours.",
        ),
        Wrong(
            "no_two",
            """
def interval(save_seconds, hours, devices):
    return (save_seconds * hours * 3600 / devices) ** 0.5
""",
            """Nearly: a failure loses *half* an interval on average, which puts a 2 under the
            root.""",
        ),
    ),
    judge=_judge_interval,
)

# --- 10.3 -----------------------------------------------------------------------------------------


def _judge_rate(answer: Any) -> Verdict:
    for prepare, workers, step, batch in ((0.02, 4, 0.1, 32), (0.02, 16, 0.5, 64), (0.01, 1, 1, 8)):
        found = number(answer(prepare, workers, step, batch), "pictures a second")
        ways = workers / prepare, batch / step
        if close(found, min(ways)):
            continue
        if close(found, 1 / sum(1 / each for each in ways)):
            return mistake("one_after_the_other")
        if close(found, max(ways)):
            return mistake("faster")
        if close(found, min(1 / prepare, batch / step)):
            return mistake("one_worker")
        return not_yet(
            f"{prepare} s a picture with {workers} workers, {step} s a step of {batch}: it gives "
            f"{found:g}; preparing alone would manage {ways[0]:g}, computing alone {ways[1]:g}."
        )
    return passed("The slower side decides; the other one waits for it.")


ex10_3 = Exercise(
    "10.3",
    "Which side waits",
    minutes=6,
    question="""
        A worker takes `prepare` seconds to read, decode and augment a picture; there are `workers`
        of them, and they work while the device computes. A step with a batch of `batch` pictures
        takes `step` seconds. Return how many pictures a second are trained on.
    """,
    answer="pictures_per_second",
    stub="""
def pictures_per_second(prepare, workers, step, batch):
    return ...
""",
    solution="""
def pictures_per_second(prepare, workers, step, batch):
    return min(workers / prepare, batch / step)
""",
    why="""
        Workers prepare the next batches meanwhile, so the times don't add up: the slower side
        decides. Freezing makes `step` shorter. Where preparing was the slower side already, that
        gains nothing at all.
    """,
    hints=(
        "How many pictures a second could the workers prepare? And how many could the device take?",
        "Both work at the same time. Which one waits?",
    ),
    wrongs=(
        Wrong(
            "one_after_the_other",
            """
def pictures_per_second(prepare, workers, step, batch):
    return batch / (batch * prepare / workers + step)
""",
            """That is without workers in the background: there, preparing and computing take
            turns.""",
        ),
        Wrong(
            "faster",
            """
def pictures_per_second(prepare, workers, step, batch):
    return max(workers / prepare, batch / step)
""",
            "The faster side waits for the slower one, not the other way round.",
        ),
        Wrong(
            "one_worker",
            """
def pictures_per_second(prepare, workers, step, batch):
    return min(1 / prepare, batch / step)
""",
            "There are several workers, each at a picture of its own.",
        ),
    ),
    judge=_judge_rate,
)

# --- 10.4 -----------------------------------------------------------------------------------------


class _PowerCut(Exception):  # noqa: N818 (no fault of the program)
    pass


def _judge_save(answer: Any) -> Verdict:
    def cut(after: int) -> Any:
        for number_ in range(after):
            yield b"new " * 10 + bytes([number_])
        raise _PowerCut

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.ckpt"
        answer(path, [b"first ", b"checkpoint"])
        if not path.exists() or path.read_bytes() != b"first checkpoint":
            return not_yet("After saving, the file doesn't hold the parts, one after the other.")
        for after in (0, 1, 3):
            try:
                answer(path, cut(after))
            except _PowerCut:
                pass
            else:
                return not_yet("It fell silent about the error in the middle; let it through.")
            if not path.exists() or path.read_bytes() != b"first checkpoint":
                return mistake("in_place" if path.exists() else "removed_first")
        answer(path, [b"second"])
        if path.read_bytes() != b"second":
            return not_yet("A later checkpoint doesn't take the place of the first.")
    return passed("Either the old file or the new one, whole, at every moment.")


ex10_4 = Exercise(
    "10.4",
    "A file that is whole",
    minutes=8,
    question="""
        Write the `parts` (bytes, one after the other) into the file `path` so that at every moment
        there is the old file or the new one, whole. Getting the parts may fail in the middle; then
        the old file is as it was, and the error comes through.
    """,
    answer="write_whole",
    stub="""
def write_whole(path, parts):
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
""",
    solution="""
def write_whole(path, parts):
    beside = path.with_name(path.name + ".tmp")
    with beside.open("wb") as file:
        for part in parts:
            file.write(part)
    beside.replace(path)
""",
    why="""
        Renaming within a folder happens wholly or not at all. For a power cut, the bytes must be on
        the disk before (`os.fsync`), and the temporary file should be removed after an error:
        `course_lib.paths.atomic_write` does both.
    """,
    hints=(
        "`path.open('wb')` empties the old file before anything new is there.",
        "Write to another name in the same folder.",
        "`Path.replace` renames a file onto another one in one step.",
    ),
    wrongs=(
        Wrong(
            "in_place",
            """
def write_whole(path, parts):
    with path.open("wb") as file:
        file.writelines(parts)
""",
            """When it failed in the middle, the old checkpoint was gone already, and half of a new
            one in its place.""",
        ),
        Wrong(
            "removed_first",
            """
def write_whole(path, parts):
    path.unlink(missing_ok=True)
    beside = path.with_name(path.name + ".tmp")
    with beside.open("wb") as file:
        for part in parts:
            file.write(part)
    beside.replace(path)
""",
            "The old file is removed before the new one is whole. Killed between, you have none.",
        ),
    ),
    judge=_judge_save,
)

# --- 10.5 -----------------------------------------------------------------------------------------


def _judge_ring(answer: Any) -> Verdict:
    for params, devices, speed in ((1_000_000, 1, 1e9), (3_400_000, 2, 1e9), (25_600_000, 8, 1e10)):
        found = number(answer(params, devices, speed), "a number of seconds")
        expected = 2 * (devices - 1) / devices * 4 * params / speed
        if close(found, expected) or abs(found - expected) < 1e-12:
            continue
        if close(found, expected / 4):
            return mistake("numbers")
        if close(found, expected / 2):
            return mistake("half")
        if close(found, (devices - 1) * 4 * params / speed):
            return mistake("to_everybody")
        return not_yet(
            f"{params:,} numbers on {devices} devices: {found:g} s; expected {expected:g}."
        )
    return passed("However many devices there are, each sends at most twice the gradients.")


ex10_5 = Exercise(
    "10.5",
    "What the exchange costs",
    minutes=8,
    question="""
        After each step, `devices` devices average the gradients of `params` numbers (float32) in a
        ring: each sends its part round twice, once to add up and once to hand out, each time
        (devices - 1) / devices of all. Return the seconds that it takes at `speed` bytes a second.
    """,
    answer="exchange_seconds",
    stub="""
def exchange_seconds(params, devices, speed):
    return ...
""",
    solution="""
def exchange_seconds(params, devices, speed):
    return 2 * (devices - 1) / devices * 4 * params / speed
""",
    why="""
        One device sends nothing. With many, it is nearly twice the gradients' bytes, whatever their
        number. Frozen parameters have no gradients, so they aren't sent.
    """,
    hints=(
        "How many bytes has a float32?",
        "Twice round the ring: once for the sums, once for the result.",
        "With one device the answer is 0.",
    ),
    wrongs=(
        Wrong(
            "numbers",
            """
def exchange_seconds(params, devices, speed):
    return 2 * (devices - 1) / devices * params / speed
""",
            "That counts numbers. A float32 has four bytes, and the speed is in bytes.",
        ),
        Wrong(
            "half",
            """
def exchange_seconds(params, devices, speed):
    return (devices - 1) / devices * 4 * params / speed
""",
            "That is once round: the sums are there, but each device has only its part of them.",
        ),
        Wrong(
            "to_everybody",
            """
def exchange_seconds(params, devices, speed):
    return (devices - 1) * 4 * params / speed
""",
            "That sends all gradients to every other device. In a ring each sends parts only.",
        ),
    ),
    judge=_judge_ring,
)

# --- 10.6 -----------------------------------------------------------------------------------------


def _judge_batch(answer: Any) -> Verdict:
    for batch, world, most in ((256, 1, 256), (256, 8, 32), (256, 2, 32), (96, 4, 10), (14, 2, 3)):
        try:
            size, passes = (int(each) for each in answer(batch, world, most))
        except (TypeError, ValueError) as error:
            raise Unfinished("Return two whole numbers: a pass's pictures, and passes.") from error
        own = batch // world
        fewest = next(each for each in range(1, own + 1) if own % each == 0 and own // each <= most)
        where = f"a batch of {batch} over {world} processes, at most {most} at once"
        if (size, passes) == (own // fewest, fewest):
            continue
        if size * passes == batch and world > 1:
            return mistake("each_the_whole")
        if size * passes * world != batch and size <= most:
            return mistake("another_batch")
        if size > most:
            return mistake("too_large")
        return not_yet(
            f"{where}: {size} pictures in {passes} passes; expected {own // fewest} in {fewest}."
        )
    return passed("The same step as one process with the whole batch, and the same rate suits it.")


ex10_6 = Exercise(
    "10.6",
    "The same batch on other machines",
    minutes=10,
    question="""
        A step shall have `batch` pictures, over `world` processes, `world` dividing `batch`. A
        process can hold `most` pictures at once, so it may need several passes before the step,
        with the gradients added up. Return `(size, passes)`: how many pictures a pass has, and how
        many passes a process makes, all equally large and as few as possible.
    """,
    answer="passes_of",
    stub="""
def passes_of(batch, world, most):
    return ...
""",
    solution="""
def passes_of(batch, world, most):
    own = batch // world
    passes = next(p for p in range(1, own + 1) if own % p == 0 and own // p <= most)
    return own // passes, passes
""",
    why="""
        `size * passes * world` is the batch, whatever the machines. So the steps of an epoch, the
        schedule and the learning rate stay as they were. BatchNorm sees the pictures of one pass:
        hold it, or its noise differs.
    """,
    hints=(
        "How many pictures of the batch are one process's own?",
        "Passes of equal size: their number divides what the process has.",
        "Take the smallest such number for which a pass isn't larger than `most`.",
    ),
    wrongs=(
        Wrong(
            "each_the_whole",
            """
def passes_of(batch, world, most):
    passes = next(p for p in range(1, batch + 1) if batch % p == 0 and batch // p <= most)
    return batch // passes, passes
""",
            """Every process does the whole batch, so a step has `world` times as many pictures, and
            another learning rate would suit.""",
        ),
        Wrong(
            "another_batch",
            """
def passes_of(batch, world, most):
    own = batch // world
    return min(own, most), -(-own // most)
""",
            "The passes together are more than the process's part: the step has another batch.",
        ),
        Wrong(
            "too_large",
            """
def passes_of(batch, world, most):
    return batch // world, 1
""",
            "That is out of memory where a process's part is larger than it can hold at once.",
        ),
    ),
    judge=_judge_batch,
)

q10_1 = Question(
    "10.1",
    "You freeze a block after `DistributedDataParallel(model)`. What happens?",
    (
        Option(
            "The same as before it: `requires_grad` is looked at in every step.",
            "It is looked at when the wrapper is made. From then on it waits for these gradients.",
        ),
        Option(
            "The wrapper waits for gradients that never come, and says so in the next step.",
            "It had noted that this block takes part. Freeze first, and wrap anew after changes.",
            right=True,
        ),
        Option(
            "The block is averaged with zeros and shrinks.",
            "Nothing is averaged: there is no gradient to average.",
        ),
    ),
)
q10_2 = Question(
    "10.2",
    "Decoding takes 80 % of the time of an epoch. You freeze the body. How much faster is it?",
    (
        Option(
            "Three times, since a step takes a third.",
            "The step does, and it was 20 % of the time, or hidden behind the decoding.",
        ),
        Option(
            "Hardly at all; cached features, or smaller files, would help.",
            "What isn't the bottleneck gains nothing. Cached features leave out the decoding.",
            right=True,
        ),
        Option(
            "Five times, since decoding needs no gradients.",
            "Decoding isn't touched by freezing.",
        ),
    ),
)
q10_3 = Question(
    "10.3",
    "Eight GPUs, and each still gets 32 pictures a step. What has changed beside the speed?",
    (
        Option(
            "Nothing: each GPU does what the one did.",
            "Their gradients are averaged, so that one step is made of 256 pictures.",
        ),
        Option(
            "The batch: 256 pictures a step, an eighth of the steps, so other rates suit.",
            "Compare at equal global batch, or tune the rate anew.",
            right=True,
        ),
        Option(
            "The loss is eight times as large.",
            "DDP averages the gradients; it doesn't add them up.",
        ),
    ),
)

EXERCISES = (ex10_1, ex10_2, ex10_3, ex10_4, ex10_5, ex10_6)
QUESTIONS = (q10_1, q10_2, q10_3)
