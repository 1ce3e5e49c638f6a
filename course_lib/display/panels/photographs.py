"""What the panels for photographs share: how a photograph gets in, and how the result is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor

from course_lib.data.colours import to_rgb
from course_lib.data.images import READ, ImageError, decode, open_image
from course_lib.display import plots
from course_lib.display.panels.base import Panel
from course_lib.errors import CourseError
from course_lib.paths import user_path

# Where the system knows no type for these endings, "image/*" alone would hide such files.
ACCEPTED = "image/*,.heic,.heif,.avif,.jp2,.tif,.tiff,.webp"

LONGEST_NAME = 24  # characters of a class name beside its bar

_INVITATION = "or drag a photograph here"
_TOO_LARGE = "is larger than 10 MB: write its path instead"

# The upload button of ipywidgets, 7 and 8, takes a file only through an <input> that it never
# shows, so nothing can be dropped on it. The button is pressed, and in place of the dialog the
# input gets the dropped file: from there on it is an upload like any other. Above 10 MiB the
# notebook's server would close the connection without a word.
_ON_DROP = f"""
event.preventDefault(); event.stopPropagation(); this.style.background = '';
const [file] = event.dataTransfer.files, one = new DataTransfer();
this.firstChild.textContent = '{_INVITATION}';
if (file && file.size > 1e7) this.firstChild.textContent = file.name + ' {_TOO_LARGE}';
else if (file) {{
  one.items.add(file);
  const dialog = HTMLInputElement.prototype.click;
  HTMLInputElement.prototype.click = function () {{
    this.files = one.files; this.dispatchEvent(new Event('change'));
  }};
  try {{ this.closest('.widget-vbox').querySelector('.widget-upload').click(); }}
  finally {{ HTMLInputElement.prototype.click = dialog; }}
}}"""
_ON_DRAG = "event.preventDefault(); event.stopPropagation(); this.style.background = '#0072B233'"

# It comes into sight by a handler of its own, so where a front end allows none, it isn't offered.
DROP_ZONE = (
    f'<div hidden class="course-drop" ondragover="{_ON_DRAG}" ondrop="{escape(_ON_DROP)}" '
    "ondragleave=\"this.style.background = ''\" "
    'style="border: 2px dashed; border-radius: 6px; padding: 1em; max-width: 28em; '
    f'text-align: center"><span role="status">{_INVITATION}</span>'
    '<img alt="" hidden src="data:," onerror="this.parentNode.hidden = false"></div>'
)


class PhotographPanel(Panel):
    """A panel about one photograph at a time: uploaded, dropped, or opened by its path.

    Args:
        picture: what is shown at first, a picture or its path; None to wait for one.

    Attributes:
        name: what the present picture is called.
        hint: what goes in, and where it goes.

    Raises:
        ImageError: the first picture can't be read.
    """

    photographs = True
    hint = (
        f"Read are {READ}; by upload or dragging up to 10 MB, by path any size. The photograph "
        "goes to the machine that runs this notebook, and nowhere else."
    )

    def __init__(self, picture: Image.Image | Path | str | None) -> None:
        super().__init__()
        self.name = "the bundled picture"
        self._problem: ImageError | None = None
        self._picture: Image.Image | None = None
        if isinstance(picture, Image.Image):
            self._picture = _upright(picture, self.name)
        elif picture is not None:
            self.name, self._picture = Path(picture).name, open_image(picture)

    def open(self, path: Path | str) -> None:
        """Look at a picture file on this machine; an unreadable one is said to be so."""
        text = str(path).strip().strip("\"'")  # pasted paths come with quotes
        file = user_path(text)

        def read() -> Image.Image:
            if not text:
                raise ImageError("No path was given. Write one, such as pictures/lunch.jpg.")
            return open_image(file)

        self._take(file.name, read)

    def receive(self, name: str, content: bytes) -> None:
        """Look at a picture that was uploaded."""

        def read() -> Image.Image:
            try:
                return decode(bytes(content))
            except ValueError as error:
                raise ImageError(
                    f"{name} can't be read: {error}. Save it again as JPEG, PNG or WebP."
                ) from error

        self._take(name, read)

    def _take(self, name: str, read: Callable[[], Image.Image]) -> None:
        try:
            self._picture, self.name, self._problem = read(), name, None
        except ImageError as error:
            self._problem = error
        self.refresh()

    def show(self, picture: Path | str | Image.Image | None = None) -> None:
        """The result without controls: a picture and a text, or in a plain script the text.

        Args:
            picture: a path or a picture; by default the present one.
        """
        if isinstance(picture, Image.Image):
            name = Path(str(getattr(picture, "filename", ""))).name or "the picture"
            self._take(name, lambda: _upright(picture, name))
        elif picture is not None:
            self.open(picture)
        try:
            self._show_static(self.view())
        except CourseError as error:
            print(f"This can't be shown. {error}")

    def more_controls(self) -> list[Any]:
        """Controls below those for the picture, top to bottom; none by default."""
        return []

    def controls(self) -> list[Any]:
        """An upload, a place to drop a file, a path with a button, and what the panel adds."""
        import ipywidgets as w

        upload = w.FileUpload(
            accept=ACCEPTED, multiple=False, description="Upload a picture",
            tooltip=f"A file: {READ}", layout=w.Layout(width="16em"),
        )  # fmt: skip
        upload.observe(self._uploaded, names="value")
        path = w.Text(
            description="or a file's path", placeholder="pictures/lunch.jpg",
            style={"description_width": "initial"}, layout=w.Layout(width="28em"),
            continuous_update=False,
        )  # fmt: skip
        go = w.Button(description="Look at it", tooltip="Open the file at this path")
        go.on_click(lambda _: self.open(path.value))
        path.observe(self._written, names="value")  # at Enter
        hint = w.HTML(f'<div style="max-width: 46em; line-height: 1.5">{self.hint}</div>')
        return [upload, w.HTML(DROP_ZONE), w.HBox([path, go]), hint, *self.more_controls()]

    def _written(self, change: Any) -> None:
        if change["new"].strip():
            self.open(change["new"])

    def _uploaded(self, change: Any) -> None:
        for name, content in uploaded_files(change["new"]):
            self.receive(name, content)
        if isinstance(change["new"], tuple) and change["new"]:
            change["owner"].value = ()  # else the same file couldn't be uploaded again


def uploaded_files(value: Any) -> list[tuple[str, bytes]]:
    """Name and content of what was uploaded, as ipywidgets 7 (a dict) and 8 (a tuple) say it."""
    if isinstance(value, dict):
        return [(name, bytes(each["content"])) for name, each in value.items()]
    return [(each["name"], bytes(each["content"])) for each in value]


def _upright(picture: Image.Image, name: str) -> Image.Image:
    try:
        return to_rgb(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow reads a file only now
        raise ImageError(f"{name} can't be read: {error}.") from error


def as_seen(preprocess: Any, seen: Tensor) -> np.ndarray:
    """What went into the network, (3, H, W), as a picture to look at: (H, W, 3) from 0 to 1.

    Args:
        preprocess: what made it; one that can't be undone (no ``denormalise``) leaves values that
            are stretched to 0..1.
        seen: the prepared picture.
    """
    undo = getattr(preprocess, "denormalise", None)
    low, high = seen.min(), seen.max()
    image = undo(seen) if undo else (seen - low) / (high - low).clamp_min(1e-12)
    return np.clip(np.asarray(image.permute(1, 2, 0)), 0, 1)


@dataclass(frozen=True)
class Bar:
    """A class beside its bar.

    Attributes:
        name: the class.
        probability: the bar's length.
        label: the same as it is written.
    """

    name: str
    probability: float
    label: str


def draw(
    image: np.ndarray,
    strength: Tensor | None,
    bars: Sequence[Bar],
    threshold: float | None = None,
) -> Figure:
    """The picture, the same with its heat map, and the classes as bars.

    Args:
        image: (H, W, 3), from 0 to 1.
        strength: (H, W), from 0 to 1; None: without the heat map.
        bars: best first.
        threshold: a line at this probability; bars that end before it are hatched.
    """
    height = max(2.4, 0.27 * len(bars) + 0.75)
    figure, axes = plots.new_axes(7.2, height, 1, 2 if strength is None else 3)
    axes[0, 0].imshow(image)
    axes[0, 0].axis("off")
    if strength is not None:
        plots.overlay(axes[0, 1], image, strength)
    axis = axes[0, -1]
    places = range(len(bars))[::-1]
    for place, bar in zip(places, bars, strict=True):
        reached = threshold is None or bar.probability >= threshold
        axis.barh(
            place, bar.probability, color=plots.COLOURS["blue"] if reached else "white",
            edgecolor=plots.COLOURS["blue"], hatch="" if reached else "////", linewidth=0.8,
        )  # fmt: skip
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        axis.text(bar.probability + 0.03, place, bar.label, va="center", fontsize=8, bbox=ground)
    axis.set_yticks(list(places), [_short(bar.name) for bar in bars], parse_math=False)
    axis.set_xlim(0, 1.25)
    axis.set_xticks([0, 0.5, 1])
    axis.set_xlabel("probability")
    if threshold is not None:
        axis.axvline(threshold, color=plots.COLOURS["black"], linewidth=1, linestyle="--", zorder=1)
        axis.set_title(f"sure from {threshold:.2f}", fontsize=8, x=threshold / 1.25)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
