"""The actor-critic: torso, recurrent core (or none), policy, value.  It knows no auxiliary head."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from agents.networks.recurrent import Core
from agents.networks.torsos import Torso, TorsoOutput, orthogonal
from agents.networks.value_scale import ValueScale
from agents.trajectory import AgentOutput, Trajectory

Precision = Literal["fp32", "bf16"]

# Instruction sets of a CPU that multiply bfloat16 natively, as Linux names them.
BF16_INSTRUCTIONS = frozenset({"amx_bf16", "avx512_bf16"})


def cpu_flags() -> frozenset[str]:
    """The CPU's instruction sets, or nothing where the system does not list them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), ":")
    return frozenset(line.split(":", 1)[1].split())


def choose_precision(device: torch.device) -> tuple[Precision, str]:
    """Picks bf16 where the hardware has it, and says why; timings play no part.

    bf16 keeps the exponent of float32, so no loss scaling is needed; weights,
    gradients, the gate and the optimizer stay in float32 either way.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU has native bf16"
        return "fp32", "the GPU has no native bf16"
    if device.type == "cpu":
        found = sorted(cpu_flags() & BF16_INSTRUCTIONS)
        if found:
            return "bf16", f"the CPU has {found[0]}"
        return "fp32", "the CPU has no bf16 instructions"
    return "fp32", f"bf16 is untested on {device.type}"


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Runs a block in `precision` (autocast for bf16, plain float32 otherwise)."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


def rotate(
    features: Float[Tensor, " *batch F"], matrix: Float[Tensor, "G D D"]
) -> Float[Tensor, " *batch F"]:
    """Multiplies the features by a matrix of blocks on a diagonal; those left over stay."""
    num_blocks, size = matrix.shape[:2]
    blocks, rest = features.split(
        [num_blocks * size, features.shape[-1] - num_blocks * size], dim=-1
    )
    blocks = blocks.unflatten(-1, (num_blocks, size))
    turned = torch.einsum("gij,...gj->...gi", matrix, blocks).flatten(-2)
    return torch.cat([turned, rest], dim=-1)


def folded(weight: Float[Tensor, "A F"], matrix: Float[Tensor, "G D D"]) -> Float[Tensor, "A F"]:
    """Folds a rotation of the features into the weight of the linear layer that reads them."""
    # W (R z) = (W R) z, and row by row W R = (R^T W^T)^T.
    return rotate(weight, matrix.mT)


class NotFiniteError(ValueError):
    """Weights that are NaN or infinite, which are neither saved nor played with."""


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Refuses weights that mean nothing; waits for the device once.

    Args:
        weights: by name; whole numbers among them are passed over.

    Raises:
        NotFiniteError: some are NaN or infinite; names the first tensor.
    """
    floating = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point()}
    if not floating:
        return
    finite = torch.stack([tensor.isfinite().all() for tensor in floating.values()]).tolist()
    for name, fine in zip(floating, finite, strict=True):
        if not fine:
            raise NotFiniteError(f"the weights {name} are NaN or infinite")


@dataclass(frozen=True)
class ActionSample:
    """Sampled actions, and what the agent knew when it chose."""

    action: Int[Tensor, " B"]
    log_probability: Float[Tensor, " B"]
    value: Float[Tensor, " B"] | None = None
    core_state: Float[Tensor, "B F"] | None = None
    """State of the core after the observation that was acted on, and the action."""


class ActorCritic(nn.Module):
    """A torso, and a core where there is one, shared by a softmax policy and a value.

    The torso runs in `precision`; core, policy and value are small and stay in float32,
    and so do the weights of all.
    """

    rotation: Float[Tensor, "G D D"] | None
    """Turns the features for policy and value (`agents.learning.rotograd`); none: as they are."""

    def __init__(
        self,
        torso: Torso,
        num_actions: int,
        precision: Precision = "fp32",
        core: Core | None = None,
    ) -> None:
        """Draws the initial weights of policy and value; torso and core come with theirs.

        Args:
            torso: turns observations into features.
            num_actions: A, the logits of the policy.
            precision: of the torso's arithmetic.
            core: gives the agent memory; None for a feed-forward agent.
        """
        super().__init__()
        self.precision: Precision = precision
        self.torso = torso
        self.core = core
        self.num_features = torso.num_features if core is None else core.num_features
        # Gains of OpenAI Baselines: a nearly uniform first policy, a value of unit scale.
        self.policy = orthogonal(nn.Linear(self.num_features, num_actions), gain=0.01)
        self.value = orthogonal(nn.Linear(self.num_features, 1), gain=1.0)
        self.value_scale = ValueScale()
        self.register_buffer("rotation", None)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The parts that an auxiliary loss may reach, by the names heads declare."""
        core = {} if self.core is None else {"core": self.core}
        return {"torso": self.torso, **core, "policy": self.policy, "value": self.value}

    def unroll(self, trajectory: Trajectory) -> AgentOutput:
        """Computes policy and value of all N = T + 1 observations of a trajectory."""
        output: AgentOutput = self(
            trajectory.observation, trajectory.core_state, trajectory.reset, trajectory.action
        )
        return output

    def forward(
        self,
        observation: Shaped[Tensor, " N B *shape"],
        core_state: Float[Tensor, "B F"] | None = None,
        reset: Bool[Tensor, "N B"] | None = None,
        action: Int[Tensor, "T B"] | None = None,
    ) -> AgentOutput:
        """Computes policy and value of N observations of B environments.

        Args:
            observation: in the order of time.
            core_state: of the core before the first of them; zeros if none is given.
            reset: before which of them the core forgets; nowhere if not given.
            action: what was done at each of them, as far as it is known, for the core.
        """
        lead = observation.shape[:2]
        seen = self.see(observation.flatten(0, 1))
        torso = seen.features.float().unflatten(0, lead)
        with arithmetic("fp32", observation.device):
            features, state = self._remember(torso, core_state, reset, action)
            logits, value = self.read(features)
            return AgentOutput(
                spatial=None if seen.spatial is None else seen.spatial.unflatten(0, lead),
                torso=torso,
                features=features,
                logits=logits,
                value=value,
                core_state=state,
                value_unit=self.value_scale.current,
            )

    def read(
        self, features: Float[Tensor, " *batch F"]
    ) -> tuple[Float[Tensor, " *batch A"], Float[Tensor, " *batch"]]:
        """Computes the logits of the policy, and the value, from features."""
        turned = features if self.rotation is None else rotate(features, self.rotation)
        return self.policy(turned), self.value_scale(self.value(turned).squeeze(-1))

    def see(
        self, observation: Shaped[Tensor, " batch *shape"], torso: nn.Module | None = None
    ) -> TorsoOutput:
        """Runs the torso, or another one of its kind, on a flat batch of observations."""
        with arithmetic(self.precision, observation.device):
            output: TorsoOutput = (self.torso if torso is None else torso)(observation)
        return output

    def logits(self, observation: Shaped[Tensor, " T B *shape"]) -> Float[Tensor, "T B A"]:
        """Computes the policy alone, of one episode from its beginning."""
        logits: Tensor = self(observation).logits
        return logits

    @torch.no_grad()
    def act(
        self,
        observation: Shaped[Tensor, " B *shape"],
        generator: torch.Generator,
        core_state: Float[Tensor, "B F"] | None = None,
        reset: Bool[Tensor, " B"] | None = None,
    ) -> ActionSample:
        """Samples one action per environment.

        Args:
            observation: of every environment.
            generator: what the actions are drawn from, on the agent's device.
            core_state: of the recurrent core before this observation; None for zeros.
            reset: environments whose episode starts here, so that the core's state is zeroed;
                None for no environment.
        """
        output = self(
            observation.unsqueeze(0), core_state, None if reset is None else reset.unsqueeze(0)
        )
        choice = sample(output.logits[0], generator)
        state = output.core_state
        if self.core is not None:
            state = self.core.acted(state, choice.action)
        return replace(choice, value=output.value[0], core_state=state)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within this block the weights do not change: each is cast to `precision` once.

        Else acting casts them at every step, which for small batches costs as much as
        the network itself.
        """
        with arithmetic(self.precision, self.policy.weight.device):
            yield

    def _remember(
        self,
        torso: Float[Tensor, "N B F"],
        state: Float[Tensor, "B F2"] | None,
        reset: Bool[Tensor, "N B"] | None,
        action: Int[Tensor, "T B"] | None,
    ) -> tuple[Float[Tensor, "N B F3"], Float[Tensor, "B F2"] | None]:
        if self.core is None:
            return torso, None
        if state is None:
            state = torso.new_zeros(torso.shape[1], self.core.state_size)
        if reset is None:
            reset = torch.zeros(torso.shape[:2], dtype=torch.bool, device=torso.device)
        features, after = self.core(torso, state, reset, action)
        return features, after


def sample(logits: Float[Tensor, "B A"], generator: torch.Generator) -> ActionSample:
    """Samples from softmax(logits) without leaving the device.

    An exponential race (argmax of p / E with E ~ Exp(1), the Gumbel trick) is
    several times cheaper than `torch.multinomial` and never synchronises.
    """
    log_probabilities = logits.log_softmax(-1)
    clock = torch.empty_like(logits).exponential_(generator=generator)
    action = (log_probabilities.exp() / clock).argmax(-1)
    chosen = log_probabilities.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    return ActionSample(action, chosen)
