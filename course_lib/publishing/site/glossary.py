"""The glossary: one list, ``content/glossary.md``, from which page and explanations are made."""

import functools
import re
from pathlib import Path

FILE = Path(__file__).parent / "content" / "glossary.md"
_ENTRY = re.compile(r"^(?P<term>\w.*)\n(?P<what>(?:  .+\n)+)", re.M)


def terms() -> dict[str, str]:
    """Each term, in order, with what it means, without marks."""
    text = FILE.read_text(encoding="utf-8")
    return {
        found["term"]: " ".join(found["what"].replace("`", "").split())
        for found in _ENTRY.finditer(text)
    }


@functools.cache
def pattern() -> re.Pattern[str]:
    """Finds a term in prose, in the plural too; the longest that fits."""
    words = "|".join(re.escape(each) for each in sorted(terms(), key=len, reverse=True))
    return re.compile(rf"\b(?P<term>{words})s?\b", re.I)
