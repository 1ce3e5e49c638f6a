"""Weights: read a checkpoint safely, load it all-or-nothing with a report, save it whole.

====================================  ===========================================================
:func:`inspect`                       what a file holds, as a tree, before you use it
:func:`read_checkpoint`               its weights, and where in it they were; runs no code
:func:`load_weights`                  into a model that exists, with a report
:func:`load_model`                    into a model that is built on the way: fastest
:func:`propose_names`                 who is who, when the names differ
:func:`to_torch_layout`               arrays of TensorFlow, Keras or JAX
:func:`save_weights`                  for use: atomic, with metadata
:func:`save_checkpoint`               for training: model, optimizer, schedule, random states
:func:`resume_checkpoint`             and back, bit for bit
====================================  ===========================================================
"""

from course_lib.weights.errors import CheckpointError, LoadError, UnsafeCheckpointError
from course_lib.weights.loading.build import load_model
from course_lib.weights.loading.load import load_weights
from course_lib.weights.loading.report import Loaded, LoadReport, Mismatched
from course_lib.weights.matching.layouts import to_torch_layout
from course_lib.weights.matching.names import name_table
from course_lib.weights.matching.propose import Pair, Proposal, propose_names
from course_lib.weights.reading.checkpoint import Checkpoint, TensorInfo, read_checkpoint
from course_lib.weights.reading.contents import Contents, inspect
from course_lib.weights.saving.resume import Resumed, resume_checkpoint, save_checkpoint
from course_lib.weights.saving.save import save_weights

__all__ = [
    "Checkpoint", "CheckpointError", "Contents", "LoadError", "LoadReport", "Loaded", "Mismatched",
    "Pair", "Proposal", "Resumed", "TensorInfo", "UnsafeCheckpointError", "inspect", "load_model",
    "load_weights", "name_table", "propose_names", "read_checkpoint", "resume_checkpoint",
    "save_checkpoint", "save_weights", "to_torch_layout",
]  # fmt: skip
