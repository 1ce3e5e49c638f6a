"""The claims ledger: what is said about transfer learning, tested, with intervals.

``print(evidence.show())`` prints the verdicts; ``evidence.quote("C18")`` a number to cite;
``evidence.run(["C18"])`` makes the results anew.
"""

from course_lib.evidence.claims import CLAIMS, Claim, claim
from course_lib.evidence.design import (
    Contrast,
    EvidenceError,
    Experiment,
    Measure,
    Outcome,
    experiment,
)
from course_lib.evidence.ledger import Effect, Entry, Ledger, check, entry, quote, show
from course_lib.evidence.prose import check_document, check_prose, citations, fill
from course_lib.evidence.runner import Comparison, compare, run, run_seed
from course_lib.evidence.statistics import Interval, paired_interval
from course_lib.evidence.studies import experiments, get, laboratory

__all__ = [
    "CLAIMS", "Claim", "Comparison", "Contrast", "Effect", "Entry", "EvidenceError", "Experiment",
    "Interval", "Ledger", "Measure", "Outcome", "check", "check_document", "check_prose",
    "citations", "claim", "compare", "entry", "experiment", "experiments", "fill", "get",
    "laboratory",
    "paired_interval", "quote", "run", "run_seed", "show",
]  # fmt: skip
