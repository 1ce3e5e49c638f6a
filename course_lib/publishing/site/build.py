"""The whole site into one folder, from stored outputs: nothing is executed, nothing loaded."""

import contextlib
import shutil
from collections.abc import Iterable
from html import escape
from io import StringIO
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.console import nocolor
from sphinx.util.docutils import docutils_namespace, patch_docutils

from course_lib.chapters import CHAPTERS
from course_lib.paths import folder_in_place, repo_root
from course_lib.publishing import notebooks
from course_lib.publishing.addresses import Address
from course_lib.publishing.handouts.frame import COURSE, LICENCE
from course_lib.publishing.site import check, pages
from course_lib.publishing.site.check import SiteError

MARK = ".course-site"  # a folder with this file was made here and may be replaced
STYLE = Path(__file__).parent / "style"


def default_folder() -> Path:
    """Where the site goes when nobody says otherwise; git ignores it."""
    return repo_root() / "site"


def build(
    folder: Path | str | None = None, names: Iterable[str] = (), where: Address | None = None
) -> Path:
    """Write the site, and check it; all of it or nothing.

    Args:
        folder: where to; by default ``site/`` in the checkout.
        names: chapters such as ``"02_hotdog"``, without the reference; by default all there is.
        where: the repository that buttons lead to; None: no buttons for Colab and reports.

    Returns:
        The first page.

    Raises:
        SiteError: a page can't be set or has a link to nowhere, or the folder holds other things;
            what was there stays.
        UnknownNameError: there is no such chapter.
    """
    target = Path(folder).absolute() if folder else default_folder()
    if target.exists() and any(target.iterdir()) and not (target / MARK).exists():
        raise SiteError(
            f"{target} holds other things than a site, and would be replaced. Name a new folder: "
            "course site FOLDER"
        )
    known = [each for each in CHAPTERS if notebooks.notebook_path(each.name).exists()]
    wanted = notebooks.checked(names, [each.name for each in known])
    chosen = [each for each in known if not wanted or each.name in wanted]
    try:
        with folder_in_place(target) as made:
            source = made.with_name("source")
            source.mkdir()
            pages.write(source, chosen, where, whole=not wanted)
            _set(source, made, where)
            shutil.copytree(source / pages.FILES, made / pages.FILES)
            (made / MARK).write_text("Made by `course site`.\n", encoding="utf-8")
            check.check(made)
    except OSError as error:
        raise SiteError(
            f"{target} can't be written: {error.strerror or error}. What was there stays. Make "
            "room, or name another folder: course site FOLDER"
        ) from error
    return target / "index.html"


def _set(source: Path, made: Path, where: Address | None) -> None:
    """Let Sphinx make the pages.

    Raises:
        SiteError: Sphinx warned of something.
    """
    warnings = StringIO()
    nocolor()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=source, confdir=None, outdir=made, doctreedir=source / ".doctrees",
            buildername="html", confoverrides=settings(where), status=None, warning=warnings,
        )  # fmt: skip
        app.build()
    lines = [
        line for line in warnings.getvalue().splitlines() if "WARNING" in line or "ERROR" in line
    ]
    if lines:
        raise SiteError("The site can't be set:\n" + "\n".join(lines[:20]))
    for name in (".buildinfo", "objects.inv"):
        with contextlib.suppress(FileNotFoundError):
            (made / name).unlink()


def settings(where: Address | None) -> dict[str, object]:
    """Sphinx's settings: from stored outputs, and with nothing that comes from elsewhere."""
    theme: dict[str, object] = {
        "use_download_button": False, "use_fullscreen_button": False, "show_toc_level": 2,
        "max_navbar_depth": 1, "navbar_persistent": [],
        "pygments_light_style": "a11y-high-contrast-light",
        "pygments_dark_style": "a11y-high-contrast-dark", "extra_footer": escape(LICENCE),
    }  # fmt: skip
    if where is not None:
        theme |= {
            "repository_url": where.repository, "repository_branch": where.ref,
            "use_repository_button": True,
            "extra_footer": f'{theme["extra_footer"]} '
            f'<a href="{escape(where.report())}">Report a mistake</a>',
        }  # fmt: skip
    return {
        "project": COURSE, "html_title": COURSE, "language": "en", "html_show_sphinx": False,
        "extensions": [
            "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon",
            "course_lib.publishing.site.sphinx_parts",
        ],
        "html_theme": "sphinx_book_theme", "html_theme_options": theme,
        "html_math_renderer": "mathml", "html_copy_source": False, "html_show_copyright": False,
        "html_static_path": [str(STYLE)], "html_css_files": ["site.css"],
        "html_js_files": ["quiz.js"], "html_use_index": False, "html_domain_indices": False,
        "nb_execution_mode": "off", "nb_ipywidgets_js": {}, "nb_merge_streams": True,
        "nb_render_markdown_format": "myst",  # its default knows no tables
        "myst_enable_extensions": ["dollarmath", "amsmath"], "myst_heading_anchors": 4,
        "napoleon_use_ivar": True, "autodoc_typehints": "signature",
        "autodoc_member_order": "bysource", "toc_object_entries_show_parents": "hide",
        "add_module_names": False, "python_use_unqualified_type_names": True,
        "exclude_patterns": [pages.FILES],
    }  # fmt: skip
