"""What stands on every handout: the course's name, its licence, the way to the notebook."""

import io

import segno

COURSE = "Pretrain, fine-tune, freeze"
LICENCE = (
    "Text and pictures: CC BY 4.0. Code: Apache-2.0. Pretrained weights keep their own licences."
)


def qr_code(address: str) -> bytes:
    """An address as a QR code, an SVG file. It is still read when a seventh of it is dirty."""
    buffer = io.BytesIO()
    segno.make(address, error="m", micro=False).save(
        buffer, kind="svg", scale=4, border=2, light="white", dark="black", nl=False
    )
    return buffer.getvalue()
