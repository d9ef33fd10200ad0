"""Auxiliary losses whose gradients pass a gate, for any loop of PyTorch and for RL.

    from auxgate.gates import gated_backward, make     # needs torch and jaxtyping alone

    import auxgate                                     # needs the extra `train`
    run = auxgate.train(env="Catch", aux="inverse", gate="cosine", steps=20_000)
    run.metrics()["return"]
    run.evaluate(episodes=100).mean

What is installed has this name alone at the top level; a checkout has the same packages
without it (`agents.gates` is `auxgate.agents.gates`).
"""

import contextlib
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auxgate.runs import DivergedError, Run, UsageError, train

__all__ = ["DivergedError", "Run", "UsageError", "__version__", "train"]

with contextlib.suppress(metadata.PackageNotFoundError):
    __version__ = metadata.version("auxgate")

with contextlib.suppress(ImportError):  # a wheel is built without it
    import auxgate._checkout  # noqa: F401


def __getattr__(name: str) -> object:
    """Imports what trains when it is asked for: the gates do without."""
    if name in __all__:
        from auxgate import runs

        return getattr(runs, name)
    raise AttributeError(f"module 'auxgate' has no attribute '{name}'")
