"""In a checkout `auxgate.agents` is the very module `agents`; so with every package of it.

Not in a wheel: there the packages lie in this folder, and `setup.py` has rewritten what they
import.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = frozenset(path.parent.name for path in ROOT.glob("*/__init__.py")) - {"auxgate"}


class Alias(MetaPathFinder, Loader):
    """Finds `auxgate.<package>...` by importing `<package>...`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Says that this class loads the module, or None where another one does."""
        above, _, real = fullname.partition(".")
        if above != "auxgate" or real.partition(".")[0] not in PACKAGES:
            return None
        found = find_spec(real)
        if found is None:
            return None
        package = found.submodule_search_locations is not None
        return ModuleSpec(fullname, self, loader_state=found, is_package=package)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Gives the one module there is."""
        return import_module(spec.loader_state.name)

    def exec_module(self, module: ModuleType) -> None:
        """Puts the module's own spec back, in whose place importlib has put the alias's."""
        if module.__spec__ is not None and module.__spec__.loader is self:
            module.__spec__ = module.__spec__.loader_state

    def get_code(self, fullname: str) -> CodeType | None:
        """For `python -m auxgate.experiments.report`."""
        found = find_spec(fullname.partition(".")[2])
        return getattr(found.loader, "get_code")(found.name) if found else None  # noqa: B009


# Before the finder of paths, which would load each module a second time.
if not any(type(finder).__name__ == Alias.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, Alias())
