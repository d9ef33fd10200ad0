"""Gates between the gradient of a main loss and those of auxiliary losses.

A gate looks at the gradients of several losses over the parameters that they share, and decides
how much of each auxiliary gradient is added to the main one. `make` builds a gate by its name and
`gated_backward` takes the place of `loss.backward()`. Both need only torch and jaxtyping, so they
work in any training loop. Two losses that pull a weight in opposite directions:

    >>> import torch
    >>> from agents.gates import gated_backward, make
    >>> weight = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> main, auxiliary = weight[0] ** 2, -weight[0] + weight[1]
    >>> judgement = gated_backward([main, auxiliary], make("cosine"), shared=[weight])
    >>> judgement
    Judgement(2 parameters, weights [1.0, 0.0])
    >>> weight.grad
    tensor([2., 0.])

The cosine of the two gradients is negative, so the auxiliary one is held back. Parameters of the
heads, which only one loss trains, go into `private` and get their own, ungated gradient.
`judgement.gramian.cosine` has the axes `[*batch, groups, rows, rows]`: row 0 is the main loss,
then come the auxiliary losses, then references that a gate keeps (a moving average, for instance).

`Gates` lists the gates that come with the package. To add one here, write a file in `methods` and
add a line to `Gates`; another package calls `register` with its config (docs/extending.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from math import isfinite
from typing import Any, get_args, get_origin, get_type_hints

from agents.gates.backward import gated_backward
from agents.gates.base import Gate, Judgement
from agents.gates.diagnose import Diagnosis, diagnose, main_cosine
from agents.gates.gramian import Gramian, Scope, column_groups
from agents.gates.graph import shared_parameters
from agents.gates.methods.attittud import AttittudConfig
from agents.gates.methods.bounded import BoundedConfig
from agents.gates.methods.cagrad import CAGradConfig, MGDAConfig
from agents.gates.methods.cosine import CosineConfig, CosineUnweightedConfig
from agents.gates.methods.gradnorm import GradNormConfig
from agents.gates.methods.gradvac import GradVacConfig, PCGradConfig
from agents.gates.methods.nash import AuxiNashConfig, NashConfig
from agents.gates.methods.ol_aux import OLAuxConfig
from agents.gates.methods.projection import OrthogonalConfig, ProjectionConfig
from agents.gates.methods.rotograd import RotoGradConfig
from agents.gates.methods.significant import SignificantConfig
from agents.gates.methods.sum import SumConfig
from agents.gates.methods.upgrad import UPGradConfig

__all__ = [
    "Gates",
    "make",
    "register",
    "registered",
    "Gate",
    "Gramian",
    "Judgement",
    "gated_backward",
    "shared_parameters",
    "Scope",
    "column_groups",
    "Diagnosis",
    "diagnose",
    "main_cosine",
    "SumConfig",
    "CosineConfig",
    "CosineUnweightedConfig",
    "SignificantConfig",
    "ProjectionConfig",
    "OrthogonalConfig",
    "BoundedConfig",
    "PCGradConfig",
    "GradVacConfig",
    "MGDAConfig",
    "CAGradConfig",
    "UPGradConfig",
    "NashConfig",
    "AuxiNashConfig",
    "GradNormConfig",
    "OLAuxConfig",
    "AttittudConfig",
    "RotoGradConfig",
]


@dataclass(frozen=True)
class Gates:
    """Every gate by its command-line name, with its default options."""

    sum: SumConfig = SumConfig()
    cosine: CosineConfig = CosineConfig()
    cosine_unweighted: CosineUnweightedConfig = CosineUnweightedConfig()
    significant: SignificantConfig = SignificantConfig()
    projection: ProjectionConfig = ProjectionConfig()
    orthogonal: OrthogonalConfig = OrthogonalConfig()
    bounded: BoundedConfig = BoundedConfig()
    pcgrad: PCGradConfig = PCGradConfig()
    gradvac: GradVacConfig = GradVacConfig()
    mgda: MGDAConfig = MGDAConfig()
    cagrad: CAGradConfig = CAGradConfig()
    upgrad: UPGradConfig = UPGradConfig()
    nash: NashConfig = NashConfig()
    auxinash: AuxiNashConfig = AuxiNashConfig()
    gradnorm: GradNormConfig = GradNormConfig()
    ol_aux: OLAuxConfig = OLAuxConfig()
    attittud: AttittudConfig = AttittudConfig()
    rotograd: RotoGradConfig = RotoGradConfig()


RESERVED = ("scope", "every", "main", "metric", "at")
"""Options of `GatingConfig`, which stand on the command line where gates have their names."""

_added: dict[str, Any] = {}


def registered() -> dict[str, Any]:
    """The default config of every gate, by name; those of plugins after the package's own."""
    return {**vars(Gates()), **_added}


def register(name: str, config: Any) -> None:
    """Adds a gate, which then can be made by its name and chosen on the command line.

    Args:
        name: in lower case, with underscores.
        config: an instance of a frozen dataclass whose `build` makes the gate; its values are
            the defaults.

    Raises:
        ValueError: the name is taken or no name, or the config is not such an instance.
    """
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"gate {name} needs a name in lower case, with underscores.")
    if name in registered() or name in RESERVED:
        raise ValueError(f"gate {name} is taken: choose another name.")
    kind: Any = type(config)
    try:
        # Options without a default would fail here, as in `make`.
        parameters: Any = getattr(kind, "__dataclass_params__", None)
        fits = parameters is not None and parameters.frozen and isinstance(kind().build(), Gate)
    except (AttributeError, TypeError):
        fits = False
    if not fits:
        raise ValueError(
            f"gate {name} must be registered with an instance of a frozen dataclass whose options "
            f"have defaults and whose build() makes a Gate, not {config!r}."
        )
    _added[name] = config


def make(name: str, **options: Any) -> Gate:
    """Builds a gate by its command-line name; hyphens and underscores are the same.

    Raises:
        ValueError: if there is no such gate, or it has no such option, or not such a value.
    """
    configs = {field: type(default) for field, default in registered().items()}
    key = name.replace("-", "_")
    if key not in configs:
        raise ValueError(f"gate must be one of {_nearest_first(key, configs)}, not {name}.")
    known = [field.name for field in fields(configs[key])]
    for option in options:
        if option not in known:
            raise ValueError(
                f"gate {key} has no option {option}; it has "
                f"{_nearest_first(option, known) or 'none'}."
            )
    kinds = get_type_hints(configs[key])
    for option, value in options.items():
        if not _fits(value, kinds[option]):
            raise ValueError(
                f"gate {key}: {option} must be of type {_readable(kinds[option])}, not {value!r}."
            )
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"gate {key}: {option} must be finite, not {value}.")
    gate: Gate = configs[key](**options).build()
    return gate


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of an option's type; integers are numbers, truth values are not."""
    if get_origin(kind) is tuple:
        return isinstance(value, tuple | list) and all(_fits(x, get_args(kind)[0]) for x in value)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    # The rest, choices by name for instance, the gates check themselves.
    return not isinstance(kind, type) or isinstance(value, kind)


def _readable(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _nearest_first(wanted: str, names: Iterable[str]) -> str:
    likeness = {name: SequenceMatcher(None, wanted, name).ratio() for name in names}
    return ", ".join(sorted(likeness, key=lambda name: -likeness[name]))
