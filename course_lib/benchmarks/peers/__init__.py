"""Our freezing measured beside that of timm, Lightning and fastai: ``course bench peers``.

* ``bench_model``: the small network, its pictures, and the plain training loop
* ``adapters``: each library behind the same few calls, used as its documentation says
* ``behaviours``: what a user relies on, one small function each
* ``results``: the table, run now or, stored in ``data/benchmarks/peers.csv``

Lightning and fastai are in the extra ``bench``; a library that isn't there is reported as not
installed.
"""

import argparse
from collections.abc import Sequence

from course_lib.benchmarks.peers.adapters import LIBRARIES, version_of
from course_lib.benchmarks.peers.behaviours import BEHAVIOURS
from course_lib.benchmarks.peers.results import Row, Table, run, table

__all__ = ["BEHAVIOURS", "LIBRARIES", "Row", "Table", "main", "run", "table", "version_of"]


def main(arguments: Sequence[str] = ()) -> None:
    """Run the suite for every library, print the table, and store what was measured.

    The file keeps its rows of a library that isn't installed here.
    """
    argparse.ArgumentParser(prog="peers", description=__doc__).parse_args(arguments)
    fresh = run()
    print(fresh)
    print()
    print(fresh.sentences())
    stored = fresh.store()
    print(f"\nStored in data/benchmarks/{stored.name}.")
