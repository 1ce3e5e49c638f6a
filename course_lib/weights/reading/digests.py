"""Is this the very file that its author published?"""

import re

from course_lib.paths import file_hash
from course_lib.weights.errors import CheckpointError
from course_lib.weights.reading.damage import Held


def check_sha256(held: Held, expected: str) -> None:
    """Compare a file with its SHA-256, or with the beginning of it.

    Args:
        held: the file.
        expected: 8 to 64 hexadecimal digits. torchvision puts the first 8 into its file names:
            ``resnet18-f37072fd.pth``.

    Raises:
        CheckpointError: another file, or ``expected`` is no hash.
    """
    wanted = expected.lower()
    if not re.fullmatch(r"[0-9a-f]{8,64}", wanted):
        raise CheckpointError(
            f"sha256={expected!r} is no SHA-256: expected 8 to 64 hexadecimal digits."
        )
    found = file_hash(held.file)
    if not found.startswith(wanted):
        raise CheckpointError(
            f"{held} is another file than expected: its SHA-256 is {found}, expected "
            f"{wanted}{'...' if len(wanted) < 64 else ''}. Download it again from its author; "
            "don't use it as it is."
        )
