"""Frozen policies to learn from: a run, an exported policy, or a table of a gridworld.

An exported policy is one safetensors file: the torso's and the policy's weights,
and a description of what it was trained on, by which a `Teacher` refuses an
environment with other actions or observations.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from agents.networks import recurrent, torsos
from agents.networks.actor_critic import ActorCritic, Precision, check_finite, folded
from agents.runtime.checkpoint import DamagedFileError, checksum, load_tensors, save_tensors
from agents.trajectory import Trajectory
from envs.base import EnvSpec

POLICY_FILE = "policy.safetensors"
BEST_FILE = "best.safetensors"
"""In a run's folder: the policy as exported last, and the one that was evaluated best."""
FORMAT = "auxgate policy 1"


@dataclass(frozen=True)
class PolicyCard:
    """What an exported policy was trained on, and how its network is built."""

    env: str
    action_set: str
    num_actions: int
    observation_shape: tuple[int, ...]
    observation_dtype: str
    protocol: str
    torso: str
    torso_options: Mapping[str, Any]
    steps: int
    """Agent steps of training."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the environment; those left out have their defaults."""
    core: str = "none"
    core_options: Mapping[str, Any] = field(default_factory=dict)
    core_actions: int = 0
    """How many actions the core tells apart, where these are more than the policy's; 0: as many."""
    num_symbols: int = 0
    world_set: str = ""
    plugins: tuple[str, ...] = ()
    """Modules that registered components of the run."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Scores of this very policy while it was trained; only the best policy's card has them."""
    format: str = FORMAT


class OtherActionsError(ValueError):
    """A teacher has other actions than its student."""

    def __init__(self, message: str, card: PolicyCard) -> None:
        super().__init__(message)
        self.card = card


class ChangedTeacherError(ValueError):
    """A run resumes with a teacher whose weights have changed."""


class Teacher(nn.Module, ABC):
    """A frozen policy."""

    memory: Tensor | None = None
    """What it carries from one trajectory to the next, where it is recurrent."""
    digest: str = ""
    """Checksum of the weights, by which a resumed run notices that its teacher changed."""
    logits_are_values: bool = False
    """Whether a logit is the return that the teacher expects of the action."""
    observes: bool = True
    """Whether it reads observations."""

    @abstractmethod
    def forward(self, trajectory: Trajectory) -> Float[Tensor, "T B A"]:
        """Computes the teacher's logits at `observation[0]` to `observation[T - 1]`."""

    def acted(self, action: Int[Tensor, " B"]) -> None:
        """Hears what was done at the last observation that it read, where it plays itself."""


class NetworkTeacher(Teacher):
    """A network's policy, read from the same observations as the student's.

    A recurrent one remembers from one trajectory to the next, as the student does.
    """

    def __init__(self, agent: ActorCritic, card: PolicyCard) -> None:
        super().__init__()
        self.agent = agent.eval().requires_grad_(False)
        self.card = card
        self.digest = checksum(policy_weights(agent))

    @torch.no_grad()
    def forward(self, trajectory: Trajectory) -> Float[Tensor, "T B A"]:
        """Computes the logits of all observations but the last, which the next call reads."""
        memory = self.memory
        if memory is not None and len(memory) != trajectory.action.shape[1]:
            memory = None  # of a run with another number of processes; new episodes begin
        # A checkpoint gives it back on the host.
        memory = None if memory is None else memory.to(trajectory.action.device)
        output = self.agent(
            trajectory.observation[:-1], memory, trajectory.reset[:-1], trajectory.action
        )
        self.memory = output.core_state
        logits: Tensor = output.logits
        return logits

    def acted(self, action: Int[Tensor, " B"]) -> None:
        """Adds the action to what a recurrent teacher remembers."""
        if self.memory is not None and self.agent.core is not None:
            self.memory = self.agent.core.acted(self.memory, action)


def export_policy(
    path: Path, agent: ActorCritic, card: PolicyCard, dtype: torch.dtype = torch.float32
) -> None:
    """Writes torso, core and policy (no value) for use as a teacher or for evaluation.

    Args:
        path: of the file, which is replaced atomically.
        agent: whose policy is written.
        card: says what the policy was trained on, and how to build its network.
        dtype: of the weights in the file.

    Raises:
        NotFiniteError: weights are NaN or infinite, or become so in `dtype`; nothing is written.
    """
    weights = {name: tensor.to(dtype) for name, tensor in policy_weights(agent).items()}
    check_finite(weights)
    content = asdict(card)
    for name in ("evaluation", "core_actions"):
        if not content[name]:
            del content[name]
    save_tensors(path, weights, content)


def policy_weights(agent: ActorCritic) -> dict[str, Tensor]:
    """All but the value's, which is no part of a policy (and random in one that was loaded).

    A rotation of the features is multiplied into the policy's.
    """
    weights = agent.state_dict()
    matrix = weights.pop("rotation", None)
    if matrix is not None:
        weights["policy.weight"] = folded(weights["policy.weight"], matrix)
    values = ("value.", "value_scale.")
    return {name: weight for name, weight in weights.items() if not name.startswith(values)}


def find_policy(path: Path) -> Path:
    """The policy file of a run directory or a shipped teacher's folder, or `path` itself."""
    return path / POLICY_FILE if path.is_dir() else path


def load_policy(
    path: Path, device: torch.device, precision: Precision = "fp32"
) -> tuple[ActorCritic, PolicyCard]:
    """Reads an exported policy, which has no value head: the agent's is NaN, so that no use of it
    goes unnoticed.

    Args:
        path: a policy file, or the folder of a run or of a shipped teacher.
        device: where the weights go.
        precision: of the torso's arithmetic.

    Raises:
        ValueError: there is none, or it is damaged or foreign.
    """
    try:
        weights, content = load_tensors(find_policy(path))
        card = _read_card(content)
        agent = policy_from(weights, card, precision)
    except FileNotFoundError as error:
        raise ValueError(f"there is no policy at {path}") from error
    except NONSENSE as error:
        reason = " ".join(str(error).split())  # torch writes a line per weight
        raise ValueError(f"the policy at {path} is damaged or foreign: {reason}") from error
    return agent.to(device), card


def policy_from(
    weights: Mapping[str, Tensor], card: PolicyCard, precision: Precision = "fp32"
) -> ActorCritic:
    """Builds the network that a card describes and gives it weights; its value head is NaN.

    Args:
        weights: of torso, core and policy, by the names of `policy_weights`.
        card: says how the network is built.
        precision: of the torso's arithmetic.

    Raises:
        ValueError: the network has other weights, or some are NaN or infinite.
    """
    known = torsos.registered(), recurrent.registered()
    if card.torso not in known[0] or card.core not in known[1]:
        trained = f" it was trained with the plugin {', '.join(card.plugins)}"
        raise DamagedFileError(
            f"torso {card.torso} or core {card.core} is unknown here;"
            f"{trained if card.plugins else ' a plugin may have been removed'}"
        )
    _check_sizes(card, weights)
    agent = _network(card, precision)
    for name, own in agent.state_dict().items():
        given = weights.get(name, own)
        if own.is_floating_point() and not given.is_floating_point():
            raise DamagedFileError(f"the weights {name} are {given.dtype}")
    held = {name: tensor.float() for name, tensor in weights.items()}
    check_finite(held)
    missing, unknown = agent.load_state_dict(held, strict=False)
    if unknown or any(not name.startswith("value") for name in missing):
        raise DamagedFileError(f"it lacks weights of the {card.torso} torso, or has others")
    with torch.no_grad():
        for name, parameter in agent.named_parameters():
            if name in missing:
                parameter.fill_(torch.nan)
    return agent


NONSENSE = (
    *(ValueError, TypeError, LookupError, AttributeError, RuntimeError, OSError),
    *(ArithmeticError, MemoryError),
)
"""What building a network or an environment raises for options that nobody wrote."""


def _network(card: PolicyCard, precision: Precision) -> ActorCritic:
    torso = type(torsos.registered()[card.torso])(**card.torso_options).build(
        card.observation_shape, card.num_symbols
    )
    core = type(recurrent.registered()[card.core])(**card.core_options).build(
        torso.num_features, card.core_actions or card.num_actions
    )
    return ActorCritic(torso, card.num_actions, precision, core)


def _check_sizes(card: PolicyCard, weights: Mapping[str, Tensor]) -> None:
    """Refuses a card whose network is of another size, before memory is taken for it."""
    try:
        with torch.device("meta"):
            expected = _network(card, "fp32").state_dict()
    except RuntimeError:
        return  # a plugin's torso that computes while it is built, or options that nobody wrote
    for name, tensor in expected.items():
        if name in weights and weights[name].shape != tensor.shape:
            raise DamagedFileError(
                f"the weights {name} are of {tuple(weights[name].shape)}, but the network has "
                f"{tuple(tensor.shape)}"
            )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and all(map(fits, value))


KINDS: Mapping[Any, Callable[[Any], bool]] = {
    str: lambda value: isinstance(value, str),
    int: _is_count,
    tuple[int, ...]: lambda value: _is_list(value, _is_count),
    tuple[str, ...]: lambda value: _is_list(value, lambda each: isinstance(each, str)),
    Mapping[str, Any]: lambda value: isinstance(value, dict),
}
"""By the type of a card's field: whether what a file says can be one."""


def _read_card(content: Mapping[str, Any]) -> PolicyCard:
    """Checks what a file says and undoes what JSON did to the tuples."""
    if content.get("format") != FORMAT:
        raise DamagedFileError(f"it has the format {content.get('format')!r}, not {FORMAT!r}")
    for entry in fields(PolicyCard):
        if entry.name in content and not KINDS[entry.type](content[entry.name]):
            raise DamagedFileError(f"its {entry.name} is {content[entry.name]!r:.60}")
    tuples = {
        name: {
            option: tuple(value) if isinstance(value, list) else value
            for option, value in content[name].items()
        }
        for name in ("torso_options", "env_options", "core_options")
        if name in content
    }
    if "world_set" in content:
        # What the option is called in policies of earlier versions.
        worlds = content["world_set"].replace("+time_limit=", "+max_episode_steps=")
        content = {**content, "world_set": worlds}
    shape = tuple(content["observation_shape"])
    plugins = tuple(content.get("plugins", ()))
    return PolicyCard(**{**content, **tuples, "observation_shape": shape, "plugins": plugins})


def load_teacher(
    path: Path, spec: EnvSpec, device: torch.device, precision: Precision = "fp32"
) -> NetworkTeacher:
    """Loads the policy at `path` as a teacher for environments of `spec`.

    Args:
        path: a policy file, or the folder of a run or of a shipped teacher.
        spec: of the student's environment.
        device: where the weights go.
        precision: of the torso's arithmetic.

    Raises:
        OtherActionsError: the teacher has other actions than the student.
        ValueError: there is no such policy, or its observations or worlds are not the student's.
    """
    agent, card = load_policy(path, device, precision)
    if card.action_set != spec.action_set or card.num_actions != spec.num_actions:
        raise OtherActionsError(
            f"the teacher at {path} plays {card.env} ({card.protocol}) with the action set "
            f"{card.action_set}, but {spec.name} ({spec.protocol}) has {spec.action_set}",
            card,
        )
    shape, dtype = card.observation_shape, str(spec.observation_dtype)
    if shape != spec.observation_shape or card.observation_dtype != dtype:
        raise ValueError(
            f"the teacher at {path} sees {card.observation_dtype} {shape}, but {spec.name} "
            f"shows {dtype} {spec.observation_shape}"
        )
    if card.world_set != spec.world_set:
        raise ValueError(
            f"the teacher at {path} learnt in {card.world_set}, but {spec.name} has "
            f"{spec.world_set}"
        )
    return NetworkTeacher(agent, card)


class TableTeacher(Teacher):
    """A teacher that is a table: one row of logits per flat state of a gridworld.

    The row is found by `Trajectory.state`, which the student never sees.
    """

    logits_are_values = True
    observes = False
    table: Tensor

    def __init__(self, table: Float[Tensor, "states A"], origin: str) -> None:
        """Takes the table as it is.

        Args:
            table: values of actions, which serve as logits.
            origin: names the table and the worlds that it is of, as its digest: the numbers
                themselves may differ in their last digits from one machine to the next.
        """
        super().__init__()
        self.register_buffer("table", table, persistent=False)
        self.digest = origin

    def forward(self, trajectory: Trajectory) -> Float[Tensor, "T B A"]:
        """Looks up the logits at all states but the last."""
        state = trajectory.state
        assert state is not None, "a table teaches only where states are known"
        return self.table[state[:-1]]
