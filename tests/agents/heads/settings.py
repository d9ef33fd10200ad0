"""What every head is tried with: three kinds of observations, and an agent that remembers."""

from dataclasses import dataclass, replace

import torch

from agents.heads import HeadContext, Heads
from agents.networks.actor_critic import ActorCritic
from agents.networks.recurrent import GRUConfig
from agents.networks.torsos import ImpalaConfig, MlpConfig
from agents.runtime.random import Stream, generator
from agents.teachers import NetworkTeacher, PolicyCard
from agents.trajectory import Trajectory
from envs.base import EnvSpec

T, B, A, F = 3, 2, 4, 5
CPU = torch.device("cpu")

SPECS = {
    "vector": EnvSpec("Vector", B, (6,), torch.float32, A, "Made"),
    "symbols": EnvSpec("Symbols", B, (3, 5), torch.uint8, A, "Made", num_symbols=7),
    "image": EnvSpec("Image", B, (4, 36, 40), torch.uint8, A, "Made", num_frames=4),
}
KINDS = (*SPECS, "memory")
"""The last one sees vectors and has a recurrent core."""


@dataclass(frozen=True)
class Setting:
    """All that a head is given."""

    kind: str
    agent: ActorCritic
    teacher: ActorCritic
    context: HeadContext

    @property
    def spec(self):
        return self.context.spec

    def build(self, name):
        """Makes a head; always the same one."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return getattr(Heads(), name).build(self.context)

    def observations(self, length, batch, seed=0):
        """Random ones of the right kind."""
        draws = torch.Generator().manual_seed(seed)
        size, spec = (length + 1, batch, *self.spec.observation_shape), self.spec
        if spec.observation_dtype == torch.float32:
            return torch.randn(size, generator=draws)
        limit = spec.num_symbols or 256
        return torch.randint(limit, size, dtype=torch.uint8, generator=draws)

    def moved(self, observation):
        """Other observations of the same kind, far from the given ones."""
        if self.spec.observation_dtype == torch.float32:
            return observation + 10.0
        if self.spec.num_symbols:
            return (observation + 1) % self.spec.num_symbols
        return observation + 100  # modulo 256

    def uneventful(self):
        """A trajectory in which nothing happens but rewards of 1."""
        zeros, never = torch.zeros(T, B), torch.zeros(T, B, dtype=torch.bool)
        return self.fill(
            Trajectory(
                action=zeros.long(),
                reward=zeros + 1,
                terminated=never,
                truncated=never,
                valid=~never,
                log_probability=zeros,
                observation=self.observations(T, B),
            )
        )

    def fill(self, trajectory):
        """Puts this setting's observations, and something to remember, into a trajectory."""
        length, batch = trajectory.action.shape
        core = self.agent.core
        draws = torch.Generator().manual_seed(1)
        return replace(
            trajectory,
            observation=self.observations(length, batch),
            core_state=None
            if core is None
            else torch.randn(batch, core.state_size, generator=draws),
        )


def make_setting(kind, unroll_length=T):
    """An agent with opinions, another one as its teacher, and the context of both."""
    spec = SPECS["vector" if kind == "memory" else kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        agent, teacher = (_agent(kind, spec) for _ in range(2))
    shape, dtype = spec.observation_shape, str(spec.observation_dtype)
    card = PolicyCard(spec.name, spec.action_set, A, shape, dtype, "raw", "mlp", {}, 0)
    context = HeadContext(
        spec=spec,
        torso=agent.torso,
        num_features=agent.num_features,
        device=CPU,
        load_teacher=lambda path: NetworkTeacher(teacher, card),  # with nothing in mind yet
        stream=lambda name: Stream(generator(0, name, CPU)),
        discount=0.9,
        unroll_length=unroll_length,
    )
    return Setting(kind, agent, teacher, context)


def _agent(kind, spec):
    config = ImpalaConfig(channels=(2, 3), width=F) if kind == "image" else MlpConfig((7, F))
    torso = config.build(spec.observation_shape, spec.num_symbols)
    core = GRUConfig(6).build(torso.num_features, A) if kind == "memory" else None
    agent = ActorCritic(torso, A, "fp32", core)
    # Opinions about one nat strong; a network's features of an image are larger than others.
    torch.nn.init.normal_(agent.policy.weight, std=0.2 if kind == "image" else 1.0)
    return agent


def evaluate(head, agent, trajectory):
    """The head's loss on a trajectory."""
    targets = head.prepare(agent, trajectory)
    return head(agent, agent.unroll(trajectory), trajectory, targets)


def changed(setting, trajectory, steps, observations) -> Trajectory:
    """Copies a trajectory with other actions and rewards at `steps` and other `observations`.

    Both select [time, environment].
    """
    action, reward = trajectory.action.clone(), trajectory.reward.clone()
    observation = trajectory.observation.clone()
    action[steps] = A - 1 - action[steps]
    reward[steps] += 10.0
    observation[observations] = setting.moved(observation[observations])
    return replace(trajectory, action=action, reward=reward, observation=observation)
