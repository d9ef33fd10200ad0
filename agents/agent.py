"""The actor-critic: torso, policy, value.  It knows no auxiliary head."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from agents.precision import Precision, arithmetic
from agents.torsos import Torso, TorsoOutput
from agents.torsos.base import orthogonal
from agents.types import AgentOutput


@dataclass(frozen=True)
class Choice:
    """Sampled actions and the log-probability of each."""

    action: Int[Tensor, " B"]
    log_probability: Float[Tensor, " B"]


class ActorCritic(nn.Module):
    """A torso shared by a softmax policy and a value.

    The torso runs in `precision`; policy and value are small and stay in float32,
    and so do the weights of all.
    """

    def __init__(self, torso: Torso, num_actions: int, precision: Precision = "fp32") -> None:
        super().__init__()
        self.precision: Precision = precision
        self.torso = torso
        # Gains of OpenAI Baselines: a nearly uniform first policy, a value of unit scale.
        self.policy = orthogonal(nn.Linear(torso.num_features, num_actions), gain=0.01)
        self.value = orthogonal(nn.Linear(torso.num_features, 1), gain=1.0)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The parts that an auxiliary loss may reach, by the names heads declare."""
        return {"torso": self.torso, "policy": self.policy, "value": self.value}

    def forward(self, observation: Shaped[Tensor, " N B *shape"]) -> AgentOutput:
        """Computes policy and value of N observations of B environments."""
        lead = observation.shape[:2]
        torso = self._look(observation.flatten(0, 1))
        features = torso.features.float().unflatten(0, lead)
        return AgentOutput(
            spatial=None if torso.spatial is None else torso.spatial.unflatten(0, lead),
            torso=features,
            features=features,
            logits=self.policy(features),
            value=self.value(features).squeeze(-1),
        )

    def logits(self, observation: Shaped[Tensor, " T B *shape"]) -> Float[Tensor, "T B A"]:
        """Computes the policy alone."""
        features = self._look(observation.flatten(0, 1)).features
        logits: Tensor = self.policy(features.float()).unflatten(0, observation.shape[:2])
        return logits

    @torch.no_grad()
    def act(self, observation: Shaped[Tensor, " B *shape"], generator: torch.Generator) -> Choice:
        """Samples one action per environment."""
        return sample(self.policy(self._look(observation).features.float()), generator)

    def _look(self, observation: Shaped[Tensor, " batch *shape"]) -> TorsoOutput:
        with arithmetic(self.precision, observation.device):
            output: TorsoOutput = self.torso(observation)
        return output


def sample(logits: Float[Tensor, "B A"], generator: torch.Generator) -> Choice:
    """Samples from softmax(logits) without leaving the device.

    An exponential race (argmax of p / E with E ~ Exp(1), the Gumbel trick) is
    several times cheaper than `torch.multinomial` and never synchronises.
    """
    log_probabilities = logits.log_softmax(-1)
    clock = torch.empty_like(logits).exponential_(generator=generator)
    action = (log_probabilities.exp() / clock).argmax(-1)
    chosen = log_probabilities.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    return Choice(action, chosen)
