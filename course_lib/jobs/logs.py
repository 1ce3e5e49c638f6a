"""What a job writes down on its way: two CSV files, and TensorBoard's where it is installed."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from course_lib.paths import write_file

STEPS = ("step", "loss", "pictures_per_second")


class Logs:
    """The logs of a job, in its folder.

    After a resume they go on at the step of the checkpoint: what was written later is taken back.
    """

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self.folder = folder
        self.wanted = tensorboard
        self.board: Any = None
        self.purge: int | None = None

    def rewind(self, step: int) -> None:
        """Take back what was written after a step."""
        path = self.folder / "steps.csv"
        self.purge = step + 1
        if path.exists():
            rows = path.read_text(errors="replace").splitlines()[1:]
            whole = [row for row in rows if re.fullmatch(r"\d{1,15},[^,]+,[^,]+", row, re.ASCII)]
            kept = [each for each in whole if int(each.partition(",")[0]) <= step]
            write_file(path, "\n".join([",".join(STEPS), *kept, ""]))

    def step(
        self, step: int, loss: float, rates: Mapping[str, float], pictures_per_second: float
    ) -> None:
        """A line for a step; rates are by the name of their part."""
        path = self.folder / "steps.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            if new:
                table.writerow(STEPS)
            table.writerow([step, f"{loss:.6g}", f"{pictures_per_second:.1f}"])
        board = self._board()
        if board:
            board.add_scalar("loss/step", loss, step)
            board.add_scalar("pictures per second", pictures_per_second, step)
            for name, rate in rates.items():
                board.add_scalar(f"rate/{name}", rate, step)

    def epochs(self, history: Sequence[Mapping[str, Any]]) -> None:
        """All epochs so far, the file as a whole; to TensorBoard goes the last."""
        out = io.StringIO()
        table = csv.DictWriter(out, list(history[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        write_file(self.folder / "epochs.csv", out.getvalue())
        board = self._board()
        if board:
            for name, value in history[-1].items():
                if isinstance(value, float):
                    board.add_scalar(f"epoch/{name}", value, history[-1]["step"])
            board.flush()

    def close(self) -> None:
        """All is on the disk."""
        if self.board:
            self.board.close()

    def _board(self) -> Any:
        if self.wanted and self.board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:  # the CSV files have the same numbers
                self.wanted = False
                return None
            self.board = SummaryWriter(self.folder / "tensorboard", purge_step=self.purge)
        return self.board
