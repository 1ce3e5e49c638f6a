"""One error for all that can go wrong on a host."""

from course_lib.errors import CourseError


class HostingError(CourseError):
    """Something is in the way; in a notebook it is shown as one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this before it prints an error
        return [f"{type(self).__name__}: {self}"]
