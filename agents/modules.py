"""Modules by name, whatever the names."""

from torch import nn


class NamedModules(nn.ModuleDict):
    """A `ModuleDict` that takes names of methods too: a head may be called `forward`.

    Its modules are found as items, never as attributes, so nothing is hidden.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Adds or replaces a module."""
        assert module is not None
        self._modules[name] = module
