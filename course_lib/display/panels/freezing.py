"""Pick layers to freeze; see what trains, what a step costs, and what the audit says."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from course_lib import freezing, profile
from course_lib.display.panels.base import Panel, View
from course_lib.errors import CourseError, UnknownNameError, suggest
from course_lib.freezing.auditing.replica import replica
from course_lib.freezing.costs import StepCost, cost_of_step
from course_lib.freezing.select import select
from course_lib.text import counted

Step = Callable[[nn.Module, Optimizer], Any]
MOST_NAMES = 40  # more boxes than that nobody reads

HOLD, FLAGS, EVAL = "freezing.freeze", "requires_grad = False", "requires_grad = False and eval()"
WAYS = (HOLD, FLAGS, EVAL)


class FreezingPanel(Panel):
    """A panel to pick layers in: what then trains, what a step costs, and the audit's verdict.

    Everything happens on copies: the model, the optimizer and the random numbers stay as they are.

    Args:
        model: the model.
        optimizer: its optimizer, or a function that makes one from a model, called after freezing.
        step: ``step(model, optimizer)``, one whole training step, as for ``freezing.audit``. It is
            run twice for each choice, so let the batch be small.
        names: dotted names of the layers to offer; by default :func:`layers_of`.
        frozen: those that are picked at the start.

    Attributes:
        names: the layers to choose from.
        frozen: those that are picked now, in the model's order.
        way: how they are frozen, one of ``WAYS``.

    Raises:
        UnknownNameError: a name that isn't there.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Callable[[nn.Module], Optimizer],
        step: Step,
        *,
        names: Sequence[str] | None = None,
        frozen: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._model, self._optimizer, self._step = model, optimizer, step
        self.names = layers_of(model) if names is None else list(names)
        select(model, self.names)  # an unknown name is an error now, not at the first click
        self.way = HOLD
        self.frozen: list[str] = []
        self._boxes: dict[str, Any] = {}
        self._whole: StepCost | None = None
        self._batching = False
        self.pick(frozen)

    def pick(self, names: Iterable[str]) -> None:
        """Freeze these layers and no others; ``"blocks"`` stands for ``blocks.0``, ``blocks.1`` ...

        Raises:
            UnknownNameError: a name that the panel doesn't offer. Nothing is picked then.
        """
        wanted: set[str] = set()
        for name in [names] if isinstance(names, str) else names:
            found = {each for each in self.names if f"{each}.".startswith(f"{name}.")}
            if not found:
                raise UnknownNameError(
                    f"This panel has no layer {name!r}.{suggest(name, self.names)}"
                )
            wanted |= found
        self.frozen = [name for name in self.names if name in wanted]
        self._batching = True
        try:
            for name, box in self._boxes.items():
                box.value = name in self.frozen
        finally:
            self._batching = False
        self.refresh()

    def view(self) -> View:
        """Freeze on a copy, audit one step there, and count what it costs."""
        if self._whole is None:
            self._whole = self._cost(*self._copies([], HOLD))
        model, optimizer = self._copies(self.frozen, self.way)
        report = freezing.audit(model, optimizer, self._step, frozen=self.frozen)
        cost = self._cost(model, optimizer)

        numbers = sum(row.size for row in report.rows if row.kind == "parameter")
        trained = [row for row in report.rows if row.kind == "parameter" and row.changed]
        moving = sum(row.size for row in trained)
        picked = ", ".join(self.frozen) or "nothing"
        verdict = (
            "no leak."
            if not report.leaks
            else f"{counted(len(report.leaks), 'frozen tensor')} moved."
        )
        lines = [
            f"Frozen: {picked}. Way: {self.way}.",
            f"Trains: {counted(len(trained), 'parameter')} with {moving:,} of {numbers:,} numbers.",
            f"A step takes {_share(cost.flops, self._whole.flops)} of the arithmetic of training "
            f"everything, and keeps {_share(cost.activations, self._whole.activations)} of its "
            "intermediate results for the way back.",
            f"Audit: {verdict}",
            *(
                f"  {group.level}: {group.why} ({counted(len(group.names), 'tensor')}). "
                f"Mend: {group.mend}"
                for group in report.grouped()
                if group.level == "leak"
            ),
        ]
        text = "\n".join(lines)
        alt = (
            "The network by depth after one step, a mark for every tensor, those that moved above "
            f"and those that stood still on the bottom line. Frozen: {picked}. "
            f"{counted(len(report.changed), 'tensor')} changed, {len(report.leaks)} of them leaks."
        )
        return View(text, report.figure(), alt, fixed=text)

    def controls(self) -> list[Any]:
        """A box for each layer, the way to freeze, and two buttons."""
        import ipywidgets as w

        for name in self.names:
            self._boxes[name] = w.Checkbox(
                value=name in self.frozen,
                description=name,
                indent=False,
                layout=w.Layout(width="auto"),
            )
            self._boxes[name].observe(self._boxes_changed, names="value")
        way = w.Dropdown(
            options=WAYS, value=self.way, description="Way to freeze",
            style={"description_width": "initial"}, layout=w.Layout(width="26em"),
        )  # fmt: skip
        way.observe(self._way_changed, names="value")
        nothing = w.Button(description="Freeze nothing", tooltip="Clear all boxes")
        rest = w.Button(
            description="Freeze all but the last", tooltip="Tick all boxes but the last layer's",
            layout=w.Layout(width="auto"),
        )  # fmt: skip
        nothing.on_click(lambda _: self.pick([]))
        rest.on_click(lambda _: self.pick(self.names[:-1]))
        grid = w.GridBox(
            list(self._boxes.values()),
            layout=w.Layout(grid_template_columns="repeat(auto-fill, minmax(9em, 1fr))"),
        )
        return [w.HTML("<b>Layers to freeze</b>"), grid, w.HBox([way, nothing, rest])]

    def _boxes_changed(self, _: object) -> None:
        if not self._batching:
            self.frozen = [name for name, box in self._boxes.items() if box.value]
            self.refresh()

    def _way_changed(self, change: Any) -> None:
        self.way = change["new"]
        self.refresh()

    def _copies(self, frozen: list[str], way: str) -> tuple[nn.Module, Optimizer]:
        """A frozen copy of the model and an optimizer for it; the originals stay as they are."""
        if isinstance(self._optimizer, Optimizer):
            model, optimizer = replica(self._model, self._optimizer)
            _freeze(model, frozen, way)
            return model, optimizer
        model = copy.deepcopy(self._model)
        _freeze(model, frozen, way)
        with profile.own_streams():
            return model, self._optimizer(model)

    def _cost(self, model: nn.Module, optimizer: Optimizer) -> StepCost:
        with profile.own_streams():
            return cost_of_step(model, optimizer, lambda: self._step(model, optimizer))


def layers_of(model: nn.Module) -> list[str]:
    """Names of a model's layers to choose from, at most 40, none inside another.

    Those are the children, or in place of one the children that it has itself, if several hold
    tensors and it holds none besides: of a ResNet ``layer1.0`` and ``layer1.1``.
    """
    tops = _with_tensors(model)
    layers: list[str] = []
    for name in tops:
        module = model.get_submodule(name)
        inner = _with_tensors(module)
        own = any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False)))
        layers += [f"{name}.{each}" for each in inner] if len(inner) > 1 and not own else [name]
    return (layers if len(layers) <= MOST_NAMES else tops)[:MOST_NAMES]


def _with_tensors(module: nn.Module) -> list[str]:
    return [
        name
        for name, child in module.named_children()
        if any(True for _ in (*child.parameters(), *child.buffers()))
    ]


def _freeze(model: nn.Module, names: list[str], way: str) -> None:
    if way == HOLD:
        freezing.freeze(model, names)
    for name in names if way != HOLD else []:
        module = model.get_submodule(name).requires_grad_(False)
        if way == EVAL:
            module.eval()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise CourseError("Everything is frozen, so there is nothing to train. Clear a box.")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"
