"""Names that don't depend on what a model is wrapped in.

``DataParallel``, ``DistributedDataParallel``, ``torch.compile`` and activation checkpointing put a
module around another one, whose names then begin with ``module.`` or ``_orig_mod.``: at the top, or
in the middle. What is saved under the plain names comes back into the model however it is wrapped.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

_INSIDE = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "ActivationWrapper": "_checkpoint_wrapped_module",
}  # by name: importing torch's compiler to ask for its class takes a second


@dataclass(frozen=True)
class PlainNames:
    """The names of a model's modules with and without their wrappers' part.

    Attributes:
        plain: real name of a module -> plain name. The modules of a wrapper share theirs.
        layers: plain name -> the modules of that name, from the outermost wrapper inwards.
    """

    plain: dict[str, str]
    layers: dict[str, list[nn.Module]]

    @classmethod
    def of(cls, model: nn.Module) -> "PlainNames":
        """Go through a model."""
        plain: dict[str, str] = {}
        layers: dict[str, list[nn.Module]] = defaultdict(list)
        inside: dict[str, str] = {}  # real name of what is wrapped -> plain name of its wrapper
        for name, module in model.named_modules(remove_duplicate=False):
            parent, _, key = name.rpartition(".")
            plain[name] = inside[name] if name in inside else join(plain.get(parent, ""), key)
            layers[plain[name]].append(module)
            if (wrapped := _wrapped(module)) is not None:
                inside[join(name, wrapped)] = plain[name]
        return cls(plain, dict(layers))

    def of_name(self, name: str) -> str:
        """The plain name of a module, a tensor or any other entry of a state dict."""
        return _moved(name, self.plain)

    def of_entry(self, plain: str) -> str:
        """The other way: what an entry of a state dict is called here, by the module it is in."""
        return _moved(plain, {short: name for name, short in self.plain.items()})

    def real(self, names: Iterable[str]) -> dict[str, str]:
        """Plain name -> real name, for these names of the model."""
        return {self.of_name(name): name for name in names}


def _moved(name: str, modules: dict[str, str]) -> str:
    """``name`` with the module that it is in renamed; the model itself is always known, as ''."""
    parts = name.split(".")
    depth = next(n for n in range(len(parts), -1, -1) if ".".join(parts[:n]) in modules)
    return join(modules[".".join(parts[:depth])], *parts[depth:])


def join(*parts: str) -> str:
    """A dotted name of its parts; empty ones are left out."""
    return ".".join(filter(None, parts))


def _wrapped(module: nn.Module) -> str | None:
    """The name under which a wrapper holds what it wraps; None for any other module."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.") and kind.__name__ in _INSIDE:
            return _INSIDE[kind.__name__]
    return None
