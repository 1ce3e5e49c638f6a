"""What can go wrong with weights, as two kinds of error."""

from course_lib.errors import CourseError


class CheckpointError(CourseError, ValueError):
    """A file that can't be read as weights; the message says what it is instead."""


class UnsafeCheckpointError(CheckpointError):
    """A file that wants to run code in order to be read. Nothing of it was run.

    Attributes:
        wanted: the Python names that the file asks for, such as ``"os.system"``: what
            ``torch.serialization.safe_globals`` needs, should you trust its author.
    """

    def __init__(self, message: str, wanted: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.wanted = wanted


class NotWrittenError(CheckpointError, OSError):
    """A file that can't be written: a full disk, no permission. An older one is still there."""


class LoadError(CourseError, ValueError):
    """Weights and model don't fit together; the model is as it was, bit for bit."""
