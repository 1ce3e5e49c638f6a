"""The experiments, one module a group; every module in here is found by itself.

Each experiment's design stands in its docstring and was written before it was run.
"""

import pkgutil
from importlib import import_module

from course_lib.errors import UnknownNameError, suggest
from course_lib.evidence import design
from course_lib.evidence.claims import CLAIMS


def experiments() -> dict[str, design.Experiment]:
    """Every experiment by its id, in the order of the claims."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        import_module(module.name)
    return {each.id: design.REGISTRY[each.id] for each in CLAIMS if each.id in design.REGISTRY}


def laboratory() -> list[str]:
    """Ids of the experiments that need nothing but the checkout, one for each file."""
    alone = (each for each in experiments().values() if not each.photographs)
    return [each.id for each in {each.results: each for each in alone}.values()]


def get(id: str) -> design.Experiment:
    """The experiment of that id.

    Raises:
        UnknownNameError: there is none.
    """
    known = experiments()
    if id not in known:
        raise UnknownNameError(
            f"There is no experiment {id!r}; there are {', '.join(known)}.{suggest(str(id), known)}"
        )
    return known[id]
