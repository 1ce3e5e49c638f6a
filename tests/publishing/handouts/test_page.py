"""The HTML files: one file each, no scripts, nothing loaded, every picture inside."""

import base64
import io
import itertools

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from course_lib.publishing.handouts import Document, page
from course_lib.publishing.handouts.document import Bullets, Link, Paragraph, Text


@pytest.fixture(scope="session")
def pages(editions):
    return [page.html(document) for document in editions.values()]


def test_no_script_and_nothing_loaded(pages):
    for html in pages:
        assert "<script" not in html.lower()
        assert "@import" not in html
        assert "url(" not in html
        soup = BeautifulSoup(html, "html.parser")
        assert not soup.find_all(["script", "link", "iframe", "object", "embed", "video", "base"])
        for tag in soup.find_all(True):
            assert not [name for name in tag.attrs if name.startswith("on")]
            for name in ("src", "srcset", "poster", "data", "background"):
                assert str(tag.get(name, "data:")).startswith("data:")


def test_every_picture_is_inside_whole_and_described(pages):
    for html in pages:
        pictures = BeautifulSoup(html, "html.parser").find_all("img")
        assert pictures
        for tag in pictures:
            assert len(tag["alt"]) > 10
            head, data = tag["src"].split(",", 1)
            raw = base64.b64decode(data, validate=True)
            if "svg" in head:
                assert raw.lstrip().startswith((b"<?xml", b"<svg"))
            else:
                Image.open(io.BytesIO(raw)).verify()


def test_structure_for_screen_readers(pages):
    for html in pages:
        soup = BeautifulSoup(html, "html.parser")
        assert soup.html["lang"] == "en"
        assert soup.title.text
        assert len(soup.find_all("h1")) == len(soup.find_all("main")) == 1
        levels = [int(tag.name[1]) for tag in soup.find_all(["h1", "h2", "h3", "h4"])]
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
        for table in soup.find_all("table"):
            assert table.find("th", scope="col")


def test_formulas_are_mathml(small):
    from course_lib.publishing.handouts import STUDENT, make

    html = page.html(make("02_hotdog", small, STUDENT))
    assert html.count("<math") == 3
    assert "$" not in BeautifulSoup(html, "html.parser").main.get_text()


def test_text_is_escaped():
    html = page.html(Document("a<b", "c&d", "<e>", (Paragraph((Text("<script>x</script>"),)),)))
    assert "<script" not in html
    assert "a&lt;b" in html


def test_links_to_chapters_lead_to_their_pages_and_strange_ones_nowhere():
    inside = (Text("here"),)
    links = [Link(inside, to) for to in ("02_hotdog.ipynb", "https://x.org", "javascript:alert(1)")]
    html = page.html(Document("t", "e", "", (Bullets(((Paragraph(tuple(links)),),)),)))
    assert 'href="02_hotdog.html"' in html
    assert 'href="https://x.org"' in html
    assert "javascript" not in html
