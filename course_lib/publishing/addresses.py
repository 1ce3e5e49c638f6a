"""Where the course is published: one small file, ``address.json`` beside this module.

It names a public GitHub repository and a tag of it. Badges, first cells and printed links are made
from it. As long as nothing is configured there are no badges, since a badge to nowhere is untrue.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.paths import write_file

FILE = Path(__file__).with_name("address.json")
SITE = "https://github.com"

# A subset of what GitHub and git allow, with room for nothing that a shell or a link would mistake.
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]*[A-Za-z0-9_-]")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class AddressError(CourseError, ValueError):
    """A repository or a tag that can't be one, or a file that doesn't hold them."""


@dataclass(frozen=True)
class Address:
    """A repository on GitHub at a fixed tag.

    Attributes:
        repo: ``"OWNER/NAME"``.
        ref: the tag, such as ``"v1.0"``.

    Raises:
        AddressError: either is not of that form.
    """

    repo: str
    ref: str

    def __post_init__(self) -> None:
        if not isinstance(self.repo, str) or not _REPO.fullmatch(self.repo):
            raise AddressError(
                f"{self.repo!r} is no repository; expected OWNER/NAME, as it stands in "
                f"{SITE}/OWNER/NAME."
            )
        known = isinstance(self.ref, str) and _REF.fullmatch(self.ref)
        if not known or ".." in self.ref or self.ref.endswith(".lock"):
            raise AddressError(f"{self.ref!r} is no tag; expected a name such as 'v1.0'.")

    @property
    def repository(self) -> str:
        """The repository's own page."""
        return f"{SITE}/{self.repo}"

    def page(self, name: str) -> str:
        """The address of a chapter, such as ``"02_hotdog"``, on the web."""
        return f"{self.repository}/blob/{self.ref}/notebooks/{name}.ipynb"

    def report(self, name: str = "") -> str:
        """The address of the form that reports a page, such as a chapter's, as confusing."""
        return f"{self.repository}/issues/new?template=confusing_page.yml&chapter={name}"

    def colab(self, name: str) -> str:
        """The address that opens a chapter in Colab."""
        return self.page(name).replace(SITE, "https://colab.research.google.com/github")

    def kaggle(self, name: str) -> str:
        """The address that opens a chapter in Kaggle."""
        return f"https://kaggle.com/kernels/welcome?src={self.page(name)}"


def address() -> Address | None:
    """The configured address; None when there is none.

    Raises:
        AddressError: ``address.json`` is damaged.
    """
    try:
        content = json.loads(FILE.read_text(encoding="utf-8"))
        repo, ref = content["repo"], content["ref"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AddressError(
            f"{FILE} can't be read ({error}). Write it anew: course colab --repo OWNER/NAME "
            "--ref TAG"
        ) from error
    return Address(repo, ref) if repo or ref else None


def configure(where: Address | None) -> None:
    """Store the address, or that there is none."""
    content = {"repo": where and where.repo, "ref": where and where.ref}
    write_file(FILE, json.dumps(content, indent=2) + "\n")
