"""A job's report: one HTML page that needs nothing else, to be read, mailed or printed."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

import course_lib
from course_lib.display.plots import CYCLE, new_axes
from course_lib.jobs.config import JobConfig, as_plain
from course_lib.jobs.data import Splits
from course_lib.jobs.measuring import Measured, Worst
from course_lib.jobs.plan import Stage
from course_lib.recipe.answers import wilson
from course_lib.recipe.calibration import bins_for, calibration_error
from course_lib.text import counted, printable_lines

LARGEST = 40  # classes whose confusion matrix is shown whole

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; } th, td { padding: .2rem .6rem; text-align: right;
       border-bottom: 1px solid #ccc; } th:first-child, td:first-child { text-align: left; }
.matrix td { min-width: 2.5rem; } .pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
caption { white-space: nowrap; text-align: left; }
figure { margin: 0; width: 9rem; font-size: .8rem; overflow-wrap: anywhere; }
figure img { width: 100%; } .curves { display: flex; flex-wrap: wrap; } svg { max-width: 100%;
       height: auto; } pre { overflow-x: auto; background: #f4f4f4; padding: 1rem; }
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


def write_report(
    config: JobConfig, splits: Splits, stages: Sequence[Stage],
    history: Sequence[Mapping[str, Any]], val: Measured, test: Measured | None, temperature: float,
    best: int,
) -> str:  # fmt: skip
    """The page as text.

    Args:
        config: what was asked for.
        splits: the pictures.
        stages: what was done.
        history: a row an epoch.
        val: the best weights on the validation pictures.
        test: and on the test pictures; None without them.
        temperature: by which the scores are divided.
        best: the epoch whose weights were kept.
    """
    shown, where = (test, "test") if test else (val, "validation")
    low, high = shown.interval
    most = max(shown.targets.bincount().tolist()) / len(shown.targets)
    chosen = "" if test else " The epoch was chosen by these pictures: expect a little less."
    body = [
        f"<h1>{_text(config.model)}: {shown.accuracy:.3f}</h1>",
        f"<p>Accuracy on {counted(len(shown.targets), f'{where} picture')}, 95 % interval "
        f"{low:.3f} to {high:.3f}; always answering the commonest class would get {most:.3f}. "
        f"Balanced accuracy {shown.balanced_accuracy:.3f}, log-loss {shown.loss:.3f}. Weights of "
        f"epoch {best}, which had the lowest validation loss.{chosen}</p>",
        "<h2>Curves</h2>", _curves(history, best),
        "<h2>What was taken for what</h2>", _matrix(shown, splits.classes),
        "<h2>Classes</h2>", _classes(shown, splits.classes),
        "<h2>The worst pictures</h2>", _pictures(shown.worst, splits.classes),
        "<h2>Calibration</h2>", _calibration(val, test, temperature),
        "<h2>What was done</h2>", _stages(stages), "<pre>", _config(config), "</pre>",
        f"<p>course_lib {course_lib.__version__}, torch {torch.__version__}</p>",
    ]  # fmt: skip
    title = f"<title>{_text(config.model)}</title>"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}<meta name="viewport" '
        f'content="width=device-width"><style>{STYLE}</style></head><body>{"".join(body)}</body>'
        "</html>"
    )


def _text(value: object) -> str:
    return html.escape(printable_lines(str(value)))  # a name may hold half a character


def _svg(figure: Figure, alt: str) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    svg = out.getvalue()
    return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{_text(alt)}"', 1)


def _curves(history: Sequence[Mapping[str, Any]], best: int) -> str:
    epochs = [row["epoch"] for row in history]
    drawn = []
    for what in ("loss", "accuracy"):
        figure, ((axes,),) = new_axes(4.4, 3)
        for split, mark, colour in (("train", "o-", CYCLE[0]), ("val", "s--", CYCLE[1])):
            values = [row[f"{split}_{what}"] for row in history]
            label = {"train": "training", "val": "validation"}[split]
            axes.plot(epochs, values, mark, color=colour, label=label)
        axes.axvline(best, color="0.6", linewidth=1, label="kept")
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        ends = f"{history[-1][f'train_{what}']:.3f} and {history[-1][f'val_{what}']:.3f}"
        drawn.append(_svg(figure, f"{what} by epoch: training and validation end at {ends}"))
    return f'<div class="curves">{"".join(drawn)}</div>'


def _matrix(measured: Measured, classes: Sequence[str]) -> str:
    table = measured.confusion
    if len(classes) > LARGEST:
        pairs = [
            (int(table[i, j]), i, j) for i, j in (table - table.diag().diag()).nonzero().tolist()
        ]
        rows = [f"{_text(classes[i])} as {_text(classes[j])}: {n}"
                for n, i, j in sorted(pairs, reverse=True)[:LARGEST]]  # fmt: skip
        return f"<p>{'<br>'.join(rows) or 'Nothing was taken for anything else.'}</p>"
    heads = "".join(f'<th scope="col">{_text(each)}</th>' for each in classes)
    lines = []
    for name, row in zip(classes, table.tolist(), strict=True):
        total = max(1, sum(row))
        cells = "".join(
            f'<td style="background: rgba(0, 114, 178, {n / total * 0.6:.2f})">{n}</td>'
            for n in row
        )
        lines.append(f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>')
    return (
        '<table class="matrix"><caption>Rows: what it is. Columns: what the network said.</caption>'
        f"<tr><th></th>{heads}</tr>{''.join(lines)}</table>"
    )


def _classes(measured: Measured, classes: Sequence[str]) -> str:
    rows = ["<tr><th>class</th><th>pictures</th><th>right</th><th>95 % interval</th></tr>"]
    for place, name in enumerate(classes):
        right, n = int(measured.confusion[place, place]), int(measured.confusion[place].sum())
        share = wilson(right, n) if n else None
        told = f"{share.value:.2f}" if share else "no picture"
        between = f"{share.low:.2f} to {share.high:.2f}" if share else ""
        rows.append(f"<tr><td>{_text(name)}</td><td>{n}</td><td>{told}</td><td>{between}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _pictures(worst: Iterable[Worst], classes: Sequence[str]) -> str:
    drawn = []
    for each in worst:
        picture = base64.b64encode(each.thumbnail).decode()
        said = f"{_text(classes[each.target])}, taken for {_text(classes[each.predicted])}"
        drawn.append(
            f'<figure><img alt="{said}" src="data:image/jpeg;base64,{picture}">'
            f"<figcaption>{said} (loss {each.loss:.1f})<br>{_text(each.name)}</figcaption></figure>"
        )
    return f'<div class="pictures">{"".join(drawn)}</div>' if drawn else "<p>None is wrong.</p>"


def _calibration(val: Measured, test: Measured | None, temperature: float) -> str:
    shown = test or val
    bins = bins_for(len(shown.targets))
    before, after = (
        calibration_error((shown.logits.double() / each).softmax(1), shown.targets, bins)
        for each in (1.0, temperature)
    )
    figure, ((axes,),) = new_axes(4.4, 3.6)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="as it should be")
    for each, label, mark, colour in (
        (1.0, "before", "s--", CYCLE[1]), (temperature, "after", "o-", CYCLE[0])
    ):  # fmt: skip
        x, y = _reliability((shown.logits.double() / each).softmax(1), shown.targets, bins)
        axes.plot(x, y, mark, color=colour, label=label)
    axes.set(xlabel="probability of the answer", ylabel="share that is right", ylim=(0, 1.02))
    axes.legend()
    told = (
        f"Scores are divided by a temperature of {temperature:.2f}, fitted on the validation "
        f"pictures: expected calibration error {before:.3f} before, {after:.3f} after."
    )
    return f"<p>{told}</p>{_svg(figure, told)}"


def _reliability(shares: Tensor, targets: Tensor, bins: int) -> tuple[list[float], list[float]]:
    """Mean probability and share of right answers in each bin that isn't empty."""
    confidence, best = shares.max(1)
    which = (confidence * bins).ceil().clamp(1, bins).long()
    x, y = [], []
    for each in which.unique().tolist():
        here = which == each
        x.append(float(confidence[here].mean()))
        y.append(float((best == targets)[here].double().mean()))
    return x, y


def _stages(stages: Sequence[Stage]) -> str:
    rows = ["<tr><th>stage</th><th>frozen</th><th>epochs</th><th>rate at the head</th></tr>"]
    for each in stages:
        frozen = ", ".join(each.frozen) or "nothing"
        rows.append(f"<tr><td>{_text(each.name)}</td><td>{_text(frozen)}</td>"
                    f"<td>{each.config.epochs}</td><td>{each.config.lr:g}</td></tr>")  # fmt: skip
    return f"<table>{''.join(rows)}</table>"


def _config(config: JobConfig) -> str:
    return _text("\n".join(f"{key} = {value!r}" for key, value in as_plain(config).items()))
