"""Badge and first cell: in every notebook, the same, and without a change to anything else."""

import nbformat
import pytest

from course_lib import cli
from course_lib.errors import CourseError
from course_lib.publishing import addresses, cells, notebooks, readme, stamping
from course_lib.publishing.addresses import AddressError
from course_lib.publishing.stamping import stamped_source

HERE = addresses.Address("someone/course", "v1.0")
SCRIPT = """# %% [markdown]
# # Title
#
# A page.

# %%
x = 1 + 1
print("two:", x)

# %% tags=["raises-exception"]
x
1 / 0
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """Two chapters, built, and an address file of its own."""
    (tmp_path / "source").mkdir()
    for name in ("07_small", "08_other"):
        (tmp_path / "source" / f"{name}.py").write_text(SCRIPT)
    monkeypatch.setattr(notebooks, "notebooks_dir", lambda: tmp_path)
    monkeypatch.setattr(addresses, "FILE", tmp_path / "address.json")
    page = tmp_path / "README.md"
    page.write_text(readme.table(None), encoding="utf-8")
    monkeypatch.setattr(readme, "FILE", page)
    addresses.configure(None)
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def built(name):
    """A chapter that was run: with the real kernel, once for all tests of this file."""
    notebook = notebooks.from_source(notebooks.sources()[name])
    notebooks.execute(notebook)
    notebooks.write(notebook, notebooks.notebook_path(name))
    return notebook


def test_stamping_equals_building_anew(workshop):
    """What is carried over is, byte for byte, what a fresh run would store."""
    built("07_small")
    addresses.configure(HERE)
    results = stamping.stamp()
    assert [str(each) for each in results] == [
        "07_small: stamped", "08_other: stamped; out of step: make notebooks",
    ]  # fmt: skip
    carried = nbformat.read(workshop / "07_small.ipynb", as_version=4)
    anew = built("07_small")
    assert [cell.get("execution_count") for cell in carried.cells] == [None, None, 1, 2, 3]
    for one, other in zip(carried.cells, anew.cells, strict=True):
        for output in [*one.get("outputs", ()), *other.get("outputs", ())]:
            # which number a kernel gives its files is its own business
            output.pop("traceback", None)
        assert one == other
    assert carried.metadata == anew.metadata
    assert not (workshop / "08_other.ipynb").exists()


def test_a_traceback_names_the_new_count(workshop):
    built("07_small")
    stamping.stamp()
    cells = nbformat.read(workshop / "07_small.ipynb", as_version=4).cells
    text = "\n".join(cells[-1].outputs[-1].traceback)
    assert "In[3]" in text
    assert "In[2]" not in text


def test_a_second_time_changes_nothing(workshop):
    for address in (None, HERE, HERE, None):
        addresses.configure(address)
        assert all(each.changed for each in stamping.stamp()) or address is HERE
        before = contents(workshop)
        assert not any(each.changed for each in stamping.stamp())
        assert contents(workshop) == before


def test_without_an_address_there_is_a_cell_and_no_badge():
    text = stamped_source(SCRIPT, "07_small", None)
    assert cells.first_cell(None) in text
    assert "badge" not in text
    assert "colab.research" not in text


def test_taking_the_cells_away_gives_the_source_back():
    """Nothing but the two cells differs, whatever was stamped before."""
    once = stamped_source(SCRIPT, "07_small", HERE)
    again = stamped_source(once, "07_small", addresses.Address("other/place", "v2"))
    assert again.count("REPO, REF") == 1
    assert "someone" not in again
    cut = again.index("# %% [markdown] tags"), again.index("# %%\nx = 1")
    assert again[: cut[0]] + again[cut[1] :] == SCRIPT


def test_the_badge_opens_this_chapter_at_this_tag_and_has_a_text():
    text = cells.badge(HERE, "02_hotdog")
    assert "github/someone/course/blob/v1.0/notebooks/02_hotdog.ipynb" in text
    assert "[![Open this chapter in Colab](" in text
    assert "[![Open this chapter in Kaggle](" in text
    assert cells.first_cell(HERE).count("someone/course") == 1


@pytest.mark.parametrize("text", ["# %%\nx = 1\n", "", "x = 1\n"])
def test_a_source_without_a_title_is_refused_before_anything_is_written(workshop, text):
    (workshop / "source" / "08_other.py").write_text(text)
    before = contents(workshop)
    with pytest.raises(CourseError, match="08_other doesn't begin with a Markdown cell"):
        stamping.stamp()
    assert contents(workshop) == before


@pytest.mark.parametrize(
    ("repo", "ref"),
    [
        ("course", "v1"), ("a/b/c", "v1"), ("a b/c", "v1"), ("a/b", ""), ("a/b", "-x"),
        ("a/b", "x y"), ("a/b", "v1..v2"), ("a/b", 'v"1'), ("-a/b", "v1"), ("a/..", "v1"),
    ],
)  # fmt: skip
def test_an_address_of_another_form_is_refused(repo, ref):
    with pytest.raises(AddressError, match="expected"):
        addresses.Address(repo, ref)


def test_the_command_stamps_checks_and_forgets(workshop, capsys):
    assert cli.main(["colab", "--check"]) == 1
    assert "07_small: to be stamped" in capsys.readouterr().out
    assert cli.main(["colab", "--repo", "someone/course", "--ref", "v1.0"]) == 0
    assert addresses.address() == HERE
    assert (HERE.repo, HERE.ref) == ("someone/course", "v1.0")
    for name in ("07_small", "08_other"):  # in step, though not run
        book = notebooks.from_source(notebooks.sources()[name])
        notebooks.write(book, notebooks.notebook_path(name))
    assert cli.main(["colab", "--check"]) == 0
    assert cli.main(["colab", "--forget"]) == 0
    assert addresses.address() is None
    assert "someone" not in (workshop / "source" / "07_small.py").read_text()
    before = contents(workshop)
    for wrong in ("--repo a/b", "--repo nonsense --ref v1", "--check --forget",
                  "--forget --repo a/b --ref v1"):  # fmt: skip
        assert cli.main(["colab", *wrong.split()]) == 1
    assert contents(workshop) == before


def test_a_damaged_address_says_how_to_write_it_anew(workshop):
    addresses.FILE.write_text("{")
    with pytest.raises(AddressError, match="course colab --repo OWNER/NAME"):
        addresses.address()


def test_the_notebooks_of_this_checkout_have_the_cell_that_belongs_to_its_address():
    """In every source and notebook, at the same place; the badge only with an address."""
    where = addresses.address()
    stamped = 0
    for name, path in notebooks.sources().items():
        text = path.read_text(encoding="utf-8")
        if text == stamped_source(text, name, where):
            stamped += 1
        else:
            assert "REPO, REF" not in text, f"{name} has another first cell: course colab"
    assert stamped in (0, len(notebooks.sources())), "all or none: course colab"
