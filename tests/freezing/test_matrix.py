"""Every cell of the matrix is a test: what each method does, and why it must.

``✓`` and ``✗`` stand for what freezing is meant to do; the word is what was measured.
"""

import pytest
import torch
from torch import nn

from course_lib.errors import UnknownNameError
from course_lib.freezing import freeze, matrix
from course_lib.freezing.costs import cost_of_step
from course_lib.freezing.matrix import QUESTIONS, ROWS, PictureReader
from course_lib.freezing.matrix_table import Cell, Matrix
from course_lib.freezing.methods import CachedAndRestored, LeftOut, NoGradForward, RequiresGrad

# Columns: requires_grad off | left out | cached and restored | no_grad | names and indices | ours.
# The fifth is the sources' idea done with this course's freeze, so it equals the sixth.
EXPECTED = {
    # All six are meant to hold a layer's parameters, weight and bias alike, and do.
    "weights": "✓kept ✓kept ✓kept ✓kept ✓kept ✓kept",
    "biases": "✓kept ✓kept ✓kept ✓kept ✓kept ✓kept",
    # Running statistics are written by forward in training mode, no matter what gradients do.
    "buffers": "✗move ✗move ✗move ✗move ✓kept ✓kept",
    # SGD makes a momentum for what it is given with a gradient: only method 3 does both.
    "optimizer state": "✓empty ✓empty ✗grows ✓empty ✓empty ✓empty",
    # A frozen weight still passes gradients on to its inputs; no_grad records nothing to pass on.
    "gradients upstream": "✓whole ✓whole ✓whole ✗cut_off ✓whole ✓whole",
    # Method 2: .grad of what the optimizer doesn't know is never cleared. Method 3: old momentum.
    "first step after": "✓normal ✗leaps ✗leaps ✓normal ✓normal ✓normal",
    # Forward, back for inputs, back for weights: a third each; 2 and 3 do all of them.
    "time a step": "✓a_third ✗all ✗all ✓a_third ✓a_third ✓a_third",
    # No backward pass, nothing kept for it; 2 saves the momentum, 3 adds a copy of the weights.
    "memory": "✓little ✗most ✗more ✓little ✓little ✓little",
    # model.train() reaches every module, unless the module itself answers otherwise.
    "survives train()": "✗undone ✗undone ✗undone ✗undone ✓holds ✓holds",
    # Flags, wrappers, caches aren't in a state dict; freeze_state knows only what freeze did.
    "survives resume": "✗lost ✗lost ✗lost ✗lost ✓back ✓back",
}
CELLS = [
    (kind, question, expected.replace("_", " "))
    for question, row in EXPECTED.items()
    for kind, expected in zip(ROWS, row.split(), strict=True)
]


@pytest.mark.parametrize(
    ("kind", "question", "expected"), CELLS, ids=lambda each: getattr(each, "__name__", each)
)
def test_cell(kind, question, expected):
    cell = matrix.measure(kind, question)
    assert str(cell).replace(" ", "", 1) == expected, cell.why
    assert cell.why.endswith(".")


# --- other kinds of network -----------------------------------------------------------------------

# Where they differ from the plain one: what has no buffers has none that move, ...
NONE = "✓none ✓none ✓none ✓none ✓none ✓none"
# ... and a weight that spectral norm computes from its buffers moves with them.
COMPUTED = "✗moves ✗moves ✗moves ✗moves ✓kept ✓kept"
OTHERS = {
    "transformer": {"buffers": NONE},
    "weight_norm": {"buffers": NONE},
    "parametrized": {"weights": COMPUTED},
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("subject", matrix.SUBJECTS[1:], ids=lambda each: each.title)
def test_the_same_questions_of_other_networks(subject, question):
    words = (EXPECTED | OTHERS[subject.title])[question].split()
    for kind, word in zip(ROWS, words, strict=True):
        cell = matrix.measure(kind, question, subject)
        assert str(cell).replace(" ", "", 1) == word.replace("_", " "), (kind, cell.why)


def test_a_weight_that_is_computed_is_looked_at_without_changing_it():
    run = matrix.Run(None, subject=matrix.SUBJECTS[-1])
    before = {name: each.clone() for name, each in run.model.state_dict().items()}
    found = run.weights()
    assert {"weight", "parametrizations.weight.original"} <= found.keys()
    assert all(torch.equal(each, before[name]) for name, each in run.model.state_dict().items())
    assert all(module.training for module in run.model.modules())
    twin = nn.functional.linear(torch.eye(18), run.part.eval().weight).t()
    torch.testing.assert_close(found["weight"], twin)


def test_the_reasons_fit_the_network():
    parametrized = matrix.SUBJECTS[-1]
    assert "computed from buffers" in matrix.measure(RequiresGrad, "weights", parametrized).why
    assert "spectral norm" in matrix.measure(RequiresGrad, "buffers", parametrized).why
    said = {s.title: matrix.measure(RequiresGrad, "survives train()", s).why for s in
            (matrix.SUBJECTS[0], matrix.SUBJECTS[2], parametrized)}  # fmt: skip
    assert said["plain"].endswith(
        "than before: BatchNorm on the batch's own statistics, dropout on."
    )
    assert said["weight_norm"].endswith("than before: dropout on.")
    assert "spectral norm" in said["parametrized"]


def test_every_question_is_expected_of_every_method():
    assert list(EXPECTED) == list(QUESTIONS)
    assert [kind.title for kind in ROWS[:-1]] == [kind.title for kind in matrix.METHODS]


# --- a method that is spoilt changes its cells: nothing is looked up ------------------------------


class OnlyTheWeight(RequiresGrad):
    """The sources' snippet."""

    def freeze(self, model, names):
        super().freeze(model, f"{names}.weight")


class Forgetful(CachedAndRestored):
    def step(self, model, optimizer, compute_loss):
        return super(CachedAndRestored, self).step(model, optimizer, compute_loss)


class Detaching(NoGradForward):
    """Passes on a gradient, but not the true one."""

    def freeze(self, model, names):
        self.wrapped = [model.get_submodule(names)]
        plain = self.wrapped[0].forward
        self.wrapped[0].__dict__["forward"] = lambda x: plain(x).detach() + 0 * x.sum()


@pytest.mark.parametrize(
    ("kind", "question", "word"),
    [
        (OnlyTheWeight, "weights", "kept"),
        (OnlyTheWeight, "biases", "moves"),
        (OnlyTheWeight, "optimizer state", "grows"),
        (Forgetful, "weights", "moves"),
        (Detaching, "gradients upstream", "changed"),
    ],
)
def test_a_fault_shows(kind, question, word):
    cell = matrix.measure(kind, question)
    assert (cell.word, cell.good) == (word, word == "kept")


def test_the_leaps_are_as_long_as_theory_says():
    # Left out: ten gradients have piled up, nearly equal ones, and the step's own is the eleventh.
    assert "It is 11 times" in matrix.measure(LeftOut, "first step after").why
    # Momentum 0.9 over ten equal gradients: (1 - 0.9^10) / 0.1 = 6.5; then 0.9 of it, plus one.
    assert "It is 7 times" in matrix.measure(CachedAndRestored, "first step after").why


# --- what a step costs, counted by hand -----------------------------------------------------------

CONV1, CONV2 = 2 * 8 * 256 * 3 * 8 * 9, 2 * 8 * 256 * 8 * 16 * 9  # 8 pictures of 16 x 16
HEAD = 2 * 8 * 16 * 2


def test_operations_counted_by_hand():
    full = matrix.Run(None, letters=False).cost()
    # Three times forward, but nobody asks for the gradient of the pictures.
    assert full.flops == 3 * (CONV1 + CONV2 + HEAD) - CONV1
    frozen = matrix.Run(RequiresGrad, letters=False).cost()
    # Forward, and the head's weights; what goes into the head needs no gradient.
    assert frozen.flops == CONV1 + CONV2 + 2 * HEAD
    assert matrix.Run(LeftOut, letters=False).cost().flops == full.flops


def test_bytes_counted_by_hand():
    in_head, in_body = 16 * 2 + 2, (3 * 8 * 9 + 8) + 2 * 8 + (8 * 16 * 9 + 16)
    full = matrix.Run(None, letters=False).cost()
    assert full.gradients == full.moments == 4 * (in_head + in_body)
    assert full.activations > 4 * 8 * 256 * (8 + 8)  # at least what goes into the two ReLUs' layers
    frozen = matrix.Run(matrix.CourseFreeze, letters=False).cost()
    assert frozen.gradients == frozen.moments == 4 * in_head
    # The head keeps its input (8, 16), the loss its log-probabilities and the total weight.
    assert 4 * 8 * 16 <= frozen.activations <= 4 * (8 * 16 + 3 * 8 * 2)
    cached = matrix.Run(CachedAndRestored, letters=False).cost()
    assert cached.copies == 4 * in_body
    assert cached.memory == full.memory + cached.copies


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_grouped_convolutions_cost_the_same_both_ways(groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(8, 8, 3, groups=groups)
    x = torch.randn(2, 8, 6, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    positions = 6 * 6 if transposed else 4 * 4
    forward = 2 * 2 * positions * 8 * 8 // groups * 9

    def flops(x, grad):
        with torch.set_grad_enabled(grad):
            step = (lambda: layer(x).sum().backward()) if grad else (lambda: layer(x))
            return cost_of_step(layer, optimizer, step, [x]).flops

    assert flops(x, False) == forward
    assert flops(x, True) == 2 * forward
    assert flops(x.clone().requires_grad_(), True) == 3 * forward
    layer.weight.requires_grad = False
    assert flops(x.clone().requires_grad_(), True) == 2 * forward


def test_a_layer_frozen_in_the_middle_is_still_passed_through():
    """Only the gradient of its own weights is saved: a third of this layer, not of the net."""
    costs = [matrix.Run(kind).cost().flops for kind in (None, matrix.CourseFreeze)]
    assert costs[0] - costs[1] == 2 * 64 * 18 * 16  # fc1, once


def test_a_frozen_prefix_builds_no_graph():
    model = PictureReader()
    freeze(model, "body")
    assert not model.body(torch.randn(2, 3, 16, 16)).requires_grad
    assert model(torch.randn(2, 3, 16, 16)).requires_grad


# --- the table ------------------------------------------------------------------------------------


def test_measuring_leaves_the_random_stream_alone():
    before = torch.get_rng_state()
    matrix.measure(LeftOut, "buffers")
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_question():
    with pytest.raises(UnknownNameError, match="'memory'"):
        matrix.measure(LeftOut, "memori")


@pytest.fixture
def small_table():
    good, bad = Cell("kept", True, "It stayed."), Cell("moves", False, "It <moved>.")
    cells = {("a", "weights"): good, ("a", "biases"): bad}
    cells |= {("b & c", "weights"): good, ("b & c", "biases"): bad}
    return Matrix(("a", "b & c"), ("weights", "biases"), cells)


def test_cells_by_number_and_title(small_table):
    assert small_table[2, "weights"] is small_table["b & c", "weights"]
    assert small_table.bad(1) == ["biases"]
    for place in ((0, "weights"), (3, "weights"), ("d", "weights"), (1, "weight")):
        with pytest.raises(UnknownNameError, match="It has"):
            small_table[place]


def test_text(small_table):
    assert str(small_table).splitlines() == [
        "         1        2",
        "───────  ───────  ───────",
        "weights  ✓ kept   ✓ kept",
        "biases   ✗ moves  ✗ moves",
        "",
        "1  a",
        "2  b & c",
    ]
    assert small_table.reasons() == "✗ biases, methods 1, 2: It <moved>."


def test_html_says_in_words_what_it_says_in_colour(small_table):
    html = small_table._repr_html_()
    assert html.count("✓ kept") == 2
    assert html.count("✗ moves") == 2
    assert "b &amp; c" in html
    assert "It &lt;moved&gt;." in html
    # Only bars are coloured: text and ground are the page's own, light or dark.
    assert "background" not in html
    assert "color:" not in html.replace("border-left:0.4em solid", "")


def test_the_whole_table():
    table = matrix.measure_all()
    assert [len(table.bad(number)) for number in range(1, 7)] == [3, 6, 7, 4, 0, 0]
    assert max(map(len, str(table).splitlines())) <= 88
    assert table._repr_html_().count("<td") == 1 + 6 * 10
