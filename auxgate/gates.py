"""Gates between the gradient of a main loss and those of its auxiliaries: `agents.gates`.

They need torch and jaxtyping, nothing else of this project.
"""

from agents.gates import *  # noqa: F403
from agents.gates import __all__ as __all__
