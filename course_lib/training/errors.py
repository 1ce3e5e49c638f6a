"""What can go wrong in a training run, as the course names it."""

from course_lib.errors import CourseError


class TrainingError(CourseError, ValueError):
    """A run that can't start, or can't go on; the message says why and what to do."""


class OutOfMemoryError(TrainingError):
    """There was too little memory, the computer's or the GPU's; the message says what to take."""


class NonFiniteLossError(TrainingError):
    """The loss or the weights became infinite or not-a-number.

    Attributes:
        epoch: the epoch in which it happened, counted from 1.
        batch: the batch in which it was seen, counted from 1; None between two epochs.
    """

    def __init__(self, message: str, epoch: int, batch: int | None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
