"""What stands on every handout: the course's name, its licence, the way to the notebook."""

import io

import segno
import yaml

from course_lib.paths import repo_root

COURSE = "Pretrain, fine-tune, freeze"


def credit() -> str:
    """The name to credit, which stands in ``CITATION.cff`` alone."""
    listed = yaml.safe_load((repo_root() / "CITATION.cff").read_text(encoding="utf-8"))["authors"]
    parts = ("given-names", "name-particle", "family-names", "name-suffix", "name")
    names = [" ".join(each[part] for part in parts if part in each) for each in listed]
    return ", ".join(names)


LICENCE = f"By {credit()}. Text and pictures: CC BY 4.0. Code: Apache-2.0. Weights: each its own."


def qr_code(address: str) -> bytes:
    """An address as a QR code, an SVG file. It is still read when a seventh of it is dirty."""
    buffer = io.BytesIO()
    segno.make(address, error="m", micro=False).save(
        buffer, kind="svg", scale=4, border=2, light="white", dark="black", nl=False
    )
    return buffer.getvalue()
