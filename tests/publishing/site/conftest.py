"""Two chapters as a site, made once."""

import pytest
from bs4 import BeautifulSoup

from course_lib.publishing import site
from course_lib.publishing.addresses import Address

WHERE = Address("someone/course", "v1.0")
CHAPTERS = ("00_start_here", "02_hotdog")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The folder of a site of two chapters."""
    folder = tmp_path_factory.mktemp("site") / "made"
    site.build(folder, CHAPTERS, WHERE)
    return folder


@pytest.fixture(scope="session")
def hotdog(small):
    """Chapter 02's page."""
    return BeautifulSoup((small / "02_hotdog.html").read_text(encoding="utf-8"), "html.parser")
