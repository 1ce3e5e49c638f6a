"""What the site teaches Sphinx: folds, formulas without scripts, terms that explain themselves."""

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from course_lib.publishing.handouts.formulas import mathml
from course_lib.publishing.site.glossary import pattern, terms

RESULT = "What happened:"  # how course_lib.publishing.learner begins the heading of a folded result
GLOSSARY = "glossary"  # the page
PROSE = (nodes.paragraph,)


class fold(nodes.General, nodes.Element):  # noqa: N801 (docutils calls the method after the class)
    """Something that opens when its ``title`` is clicked."""


class Fold(Directive):
    """``{fold} Title``: what is inside is folded away."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The fold with what stands in it."""
        made = fold(title=self.arguments[0])
        self.state.nested_parse(self.content, self.content_offset, made)
        return [made]


class FoldResults(SphinxTransform):
    """A section that tells a prediction's result becomes a fold."""

    default_priority = 400

    def apply(self, **_: Any) -> None:
        """Fold every such section, before the contents are collected."""
        for section in list(self.document.findall(nodes.section)):
            title = section[0].astext()
            if title.startswith(RESULT):
                made = fold(title=title, classes=["result"])
                made += section.children[1:]
                section.replace_self(made)


class ExplainTerms(SphinxTransform):
    """The first mention of each term of the glossary leads there, and says what it is."""

    default_priority = 900

    def apply(self, **_: Any) -> None:
        """Link the terms of one page."""
        if self.env.docname.startswith(("reference", GLOSSARY, "index")):
            return
        left = terms()
        for text in list(self.document.findall(nodes.Text)):
            if isinstance(text.parent, PROSE):
                parts = list(self._parts(str(text), left))
                if len(parts) > 1:
                    text.parent.replace(text, parts)

    def _parts(self, text: str, left: dict[str, str]) -> Iterator[nodes.Node]:
        at = 0
        address = f"{'../' * self.env.docname.count('/')}{GLOSSARY}.html"
        for match in pattern().finditer(text):
            term = next(each for each in terms() if each.lower() == match["term"].lower())
            if term not in left:
                continue
            yield nodes.Text(text[at : match.start()])
            link = nodes.reference(
                "", match[0], refuri=f"{address}#term-{term.replace(' ', '-')}", internal=True,
                reftitle=left.pop(term), classes=["term"],
            )  # fmt: skip
            yield link
            at = match.end()
        if at:
            yield nodes.Text(text[at:])


def _visit_fold(self: Any, node: fold) -> None:
    self.body.append(self.starttag(node, "details"))
    self.body.append(f"<summary>{self.encode(node['title'])}</summary>\n")


def _depart_fold(self: Any, _: fold) -> None:
    self.body.append("</details>\n")


def _visit_inline_formula(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node.astext(), display=False))
    raise nodes.SkipNode


def _visit_formula(self: Any, node: nodes.math_block) -> None:
    self.body.append(
        f'<div class="formula" tabindex="0">{mathml(node.astext(), display=True)}</div>\n'
    )
    raise nodes.SkipNode


def _leave_out(_app: Sphinx, _what: str, _name: str, obj: Any, *_: Any) -> bool | None:
    """What a class has from another library stands in that library's reference."""
    ours = getattr(obj, "__module__", None) or "course_lib"
    return None if ours.startswith("course_lib") else True


def _signature(*about: Any) -> tuple[str, str | None] | None:
    """What a dataclass makes anew each time reads as three dots; Sphinx can't parse it else."""
    signature, returned = about[-2:]
    return signature and (signature.replace("<factory>", "..."), returned)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls when it loads this module as an extension."""
    app.add_node(fold, html=(_visit_fold, _depart_fold))
    app.add_directive("fold", Fold)
    app.add_transform(FoldResults)
    app.add_transform(ExplainTerms)
    app.connect("autodoc-skip-member", _leave_out)
    app.connect("autodoc-process-signature", _signature)
    app.add_html_math_renderer("mathml", (_visit_inline_formula, None), (_visit_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
