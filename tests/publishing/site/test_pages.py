"""Two chapters' pages: what stands on them, what is folded, what answers without a kernel."""

import html5lib
import pytest

from course_lib.exercises import exercises_of, questions_of
from course_lib.exercises.prose import inline_html
from course_lib.publishing import learner, notebooks
from course_lib.publishing.pictures import picture_of
from course_lib.publishing.site import glossary
from tests.publishing.site.conftest import WHERE


def test_pages_are_html_without_a_fault(small):
    pages = [path for path in small.rglob("*.html") if "_static" not in path.parts]
    assert len(pages) >= 6
    for path in pages:
        parser = html5lib.HTMLParser()
        parser.parse(path.read_text(encoding="utf-8"))
        assert parser.errors == [], path.name


def test_every_result_of_a_prediction_is_folded(hotdog):
    """Each fold of the notebook is a closed one on the page, and holds what the cells put out."""
    folded = [
        cell.source.lstrip("# ")
        for cell in notebooks.read("02_hotdog").cells
        if cell.metadata.get(learner.COLLAPSED)
    ]
    folds = hotdog.select("details.result")
    assert [each.summary.get_text() for each in folds] == folded
    assert not [each for each in hotdog.find_all("details") if each.has_attr("open")]
    named = "normalised with its own    numbers: 75%"
    assert named in folds[0].get_text()
    assert hotdog.get_text().count(named) == 1
    contents = hotdog.select_one(".bd-sidebar-secondary").get_text()
    assert "What happened" not in contents


def test_predictions_are_boxes_and_nothing_says_that_none_was_made(hotdog):
    boxes = [each.get_text() for each in hotdog.select(".prediction label")]
    assert "Your prediction, named hotdog: " in boxes
    assert len(boxes) == len(set(boxes)) >= 10
    for gone in ("no prediction", "place of the dots. Each", "hosting.take_home", "REPO, REF"):
        assert gone not in hotdog.get_text().lower()


def test_questions_are_forms_with_one_right_answer(hotdog):
    forms = {form["id"]: form for form in hotdog.select("form.quiz")}
    questions = questions_of("02")
    assert list(forms) == [each.name for each in questions]
    for question in questions:
        form = forms[question.name]
        rights = form.select('[data-right="true"]')
        assert len(rights) == 1
        letter = rights[0]["data-option"]
        assert question.printed[letter].right
        assert form.find("input", value=letter).parent.decode_contents().endswith(
            inline_html(question.printed[letter].text)
        )  # fmt: skip
        assert all(each.has_attr("hidden") for each in form.select("[data-option]"))
        assert f"{question.name}.answer" not in hotdog.get_text()


def test_exercises_are_there_to_read_with_help_folded(hotdog):
    for exercise in exercises_of("02"):
        heading = next(
            each for each in hotdog.find_all("h3") if each.get_text().startswith(exercise.number)
        )
        section = heading.find_parent("section")
        assert f"{exercise.minutes} minutes." in section.get_text()
        assert exercise.stub.splitlines()[0] in section.get_text()
        assert "not attempted" not in section.get_text()
        helps = [each.summary.get_text() for each in section.find_all("details")]
        hints = [f"Hint {n}" for n in range(1, len(exercise.hints) + 1)]
        assert helps == [*hints, "Solution"]


def test_pictures_are_described_as_in_the_notebook(hotdog):
    shown = (picture_of(each) for _, each in notebooks.outputs(notebooks.read("02_hotdog")))
    told = [" ".join(picture.alt.split()) for picture in shown if picture]
    assert len(told) >= 8
    assert [" ".join(each["alt"].split()) for each in hotdog.select(".cell_output img")] == told
    plots = hotdog.select(".cell_output img.plot")
    assert 0 < len(plots) < len(told)  # photographs keep their colours in the dark theme


def test_formulas_are_mathml_and_no_script_sets_them(small, hotdog):
    assert len(hotdog.select(".formula > math")) >= 1
    scripts = [each.get("src", "") for each in hotdog.find_all("script")]
    assert not [each for each in scripts if "mathjax" in each.lower()]
    assert not list(small.rglob("*require*.js"))


def test_buttons_lead_to_colab_the_file_and_the_report(small, hotdog):
    links = {each.get_text(): each["href"] for each in hotdog.select(".buttons a")}
    assert links == {
        "Download the notebook": "files/02_hotdog.ipynb",
        "Open in Colab": WHERE.colab("02_hotdog"),
        "Report this page": WHERE.report("02_hotdog"),
    }
    mistake = hotdog.find("a", string="Report a mistake")
    assert mistake["href"] == WHERE.report()
    stored = notebooks.notebook_path("02_hotdog").read_bytes()
    assert (small / "files" / "02_hotdog.ipynb").read_bytes() == stored
    assert (small / "files" / "sheet_02_hotdog.pdf").read_bytes().startswith(b"%PDF")


def test_the_first_mention_of_a_term_explains_it(hotdog):
    links = hotdog.select("a.term")
    assert len(links) >= 15
    known = glossary.terms()
    explained = [each["title"] for each in links]
    assert len(explained) == len(set(explained))
    assert set(explained) <= set(known.values())


def test_next_and_previous(hotdog):
    assert hotdog.select_one("a.left-prev")["href"] == "00_start_here.html"
    assert hotdog.select_one("a.right-next")["href"] == "sheets/00_start_here.html"


@pytest.mark.parametrize("word", ["hotdog", "calibr", "overfit"])
def test_search_knows_the_words(small, word):
    assert word in (small / "searchindex.js").read_text(encoding="utf-8")


def test_terms_are_explained_in_a_sentence_and_used():
    text = " ".join(path.read_text(encoding="utf-8") for path in notebooks.sources().values())
    found = {match["term"].lower() for match in glossary.pattern().finditer(" ".join(text.split()))}
    for term, what in glossary.terms().items():
        assert what.endswith("."), term
        assert len(what) > 25, term
        assert term.lower() in found, f"{term} stands in no chapter"
