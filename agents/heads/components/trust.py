"""How far a teacher is followed: by its estimated advantage, or as long as it earns more."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from agents.algorithms.returns import gae
from agents.networks.actor_critic import sample
from agents.statistics import ReturnSums, certainty, masked_mean, returns_so_far
from agents.teachers import Teacher
from agents.trajectory import AgentOutput, Trajectory
from envs.base import VecEnv, guarding

TRACE = 0.95
"""Lambda of the advantages from which the teacher's is estimated."""
ENOUGH = 0.2
"""The teacher's advantage at which the loss counts in full, in root mean squares of all."""
LARGEST_RATIO = 20.0
"""Bound of the ratio of the teacher's to the student's probability of an action."""


class TeacherAdvantage(nn.Module):
    """Estimates how much better the teacher's actions are than the student's, state by state.

        u(x) = E_{a ~ pi_T}[A(x, a)] / s,    learnt from  pi_T(a_t | x_t) / mu(a_t | x_t) A_t / s

    by least squares, linearly in the agent's features, which it does not train.  A_t are
    generalised advantages of the student with its own values, mu is the policy that acted, and s
    the root mean square of the A_t.  By the policy improvement theorem a student that moves
    towards the teacher wherever u > 0, and only there, improves (Kakade and Langford 2002,
    "Approximately Optimal Approximate Reinforcement Learning", for small moves).  It starts at 0:
    nothing is followed before it is known to help.
    """

    def __init__(self, num_features: int, discount: float) -> None:
        super().__init__()
        self._discount = discount
        self.layer = nn.Linear(num_features, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(
        self, output: AgentOutput, trajectory: Trajectory, teacher: Float[Tensor, "T B A"]
    ) -> tuple[Float[Tensor, "T B"], Float[Tensor, "T B"]]:
        """Returns the weights of the steps, from 0 to 1, and the loss of the estimate.

        Args:
            output: of the agent.
            trajectory: that it was unrolled over.
            teacher: its probabilities.
        """
        advantage = gae(
            trajectory.reward,
            output.value.detach(),
            trajectory.terminated,
            trajectory.truncated,
            discount=self._discount,
            trace=TRACE,
        )
        likely = teacher.gather(-1, trajectory.action.unsqueeze(-1)).squeeze(-1)
        ratio = (likely / trajectory.log_probability.exp()).clamp(max=LARGEST_RATIO)
        valid = trajectory.valid
        spread = masked_mean(advantage.square(), valid).sqrt()
        drawn = torch.where(valid & (spread > 0), ratio * advantage / spread, 0.0)
        estimate = self.layer(output.features[:-1].detach()).squeeze(-1)
        weight = (estimate.detach() / ENOUGH).clamp(0.0, 1.0)
        return weight, 0.5 * (estimate - drawn).square()


STEP_LIMIT = 2_000
"""Agent steps after which a trial ends the games that go on."""
LEAST_EPISODES = 8
"""Of a trial: fewer say little of the spread of their returns, and a single one nothing."""


class Trial(nn.Module):
    """How far a teacher is known to earn more than its student does.

        w = max(0, 2 Phi((m_T - m_S) / sqrt(e_T^2 + e_S^2)) - 1)

    with the mean return m_T of the teacher, the mean m_S of the student's last episodes, and their
    standard errors.  The teacher is played before the run begins, for a whole game in every
    environment; where these are fewer than `LEAST_EPISODES`, for several.  The weight is 1 as long
    as the teacher is clearly ahead, and 0 once the student has caught up, or before anything is
    known.  A return is what the learner sees of an episode: the sum of its rewards after their
    transform, up to a termination (Atari: a life) or a truncation.  All lives of a game count,
    since the first one may be the easiest and the student plays them all.
    """

    earned: Float[Tensor, " B"]
    """By the student's episodes under way."""
    sums: Float[Tensor, "3 1"]
    """Of the student's returns."""
    standard: Float[Tensor, "2"]
    """The teacher's mean return and its squared standard error; NaN before the trial."""

    def __init__(self, num_envs: int, device: torch.device) -> None:
        """Knows nothing of the teacher yet.

        Args:
            num_envs: B, of the student's environments.
            device: theirs.
        """
        super().__init__()
        self.register_buffer("earned", torch.zeros(num_envs, device=device))
        self.register_buffer("sums", torch.zeros((3, 1), device=device))
        self.register_buffer("standard", torch.full((2,), torch.nan, device=device))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """Loads what was learnt with another number of environments, too: new episodes begin."""
        name = f"{prefix}earned"
        if name in state and state[name].shape != self.earned.shape:
            state[name] = torch.zeros_like(self.earned)
        super()._load_from_state_dict(state, prefix, *others)

    @torch.no_grad()
    def hold(
        self,
        teacher: Teacher,
        policy: Callable[[Trajectory], Tensor],
        env: VecEnv,
        generator: torch.Generator,
    ) -> str:
        """Plays at least `LEAST_EPISODES` of the teacher, as many in every environment.

        Args:
            teacher: to be tried.
            policy: from what happened to the probabilities that the student will learn from.
            env: like the student's.
            generator: what actions are drawn from, on the environments' device.

        Returns:
            A sentence on the trial.
        """
        rounds = -(-LEAST_EPISODES // env.spec.num_envs)
        played = [_a_game(teacher, policy, env, generator) for _ in range(rounds)]
        teacher.memory = None
        earned = torch.cat([returns for returns, _ in played])
        steps = sum(int(taken) for _, taken in played)
        self.standard.copy_(torch.stack([earned.mean(), earned.var() / len(earned)]))
        mean, error = float(self.standard[0]), float(self.standard[1].sqrt())
        return (
            f"The teacher was tried for {len(earned)} episodes ({steps:,} steps, which do not "
            f"count): as the learner sees rewards, it earns {mean:.3g} (standard error "
            f"{error:.2g})."
        )

    def forward(self, trajectory: Trajectory) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Takes in the student's trajectory; returns the weight, and how far the teacher leads."""
        valid = trajectory.valid
        ends = (trajectory.terminated | trajectory.truncated) & valid
        earned, opens = self.earned, trajectory.episode_start
        if opens is not None:  # a run that was resumed may have begun new episodes
            earned = torch.where(opens, 0.0, earned)
        returned = returns_so_far(earned, torch.where(valid, trajectory.reward, 0.0), ends)
        self.earned.copy_(torch.where(ends[-1], 0.0, returned[-1]))
        student = ReturnSums(self.sums)
        student.add(returned.view(-1, 1), ends.view(-1, 1))
        (mean,), (variance,) = student.mean_and_variance()
        lead = self.standard[0] - mean
        return certainty(lead, self.standard[1] + variance), lead


def _a_game(
    teacher: Teacher,
    policy: Callable[[Trajectory], Tensor],
    env: VecEnv,
    generator: torch.Generator,
) -> tuple[Float[Tensor, " episodes"], Int[Tensor, ""]]:
    """What a teacher earns in the episodes of a game in every environment, and the steps of all.

    An episode that `STEP_LIMIT` cuts counts with what it has earned, if it is its game's first.

    Args:
        teacher: to be tried.
        policy: from what happened to probabilities.
        env: reset at first.
        generator: what actions are drawn from.
    """
    with guarding(env.spec.name):
        observation = env.reset()
    num_envs, device = env.spec.num_envs, env.device
    earned = torch.zeros(num_envs, device=device)
    steps = torch.zeros((), dtype=torch.int64, device=device)
    playing = torch.ones(num_envs, dtype=torch.bool, device=device)
    opens, closed = playing, ~playing
    returns = []
    none = torch.zeros((1, num_envs), device=device)
    never, nothing = none.bool(), none.long()
    for played in range(1, STEP_LIMIT + 1):
        # A teacher reads all observations but the last.
        moment = Trajectory(
            action=nothing,
            reward=none,
            terminated=never,
            truncated=never,
            valid=~never,
            log_probability=none,
            observation=torch.stack([observation, observation]),
            state=None if env.state is None else torch.stack([env.state, env.state]),
            episode_start=opens,
        )
        action = sample(policy(moment)[0].log(), generator).action
        teacher.acted(action)
        with guarding(env.spec.name):
            step = env.step(action)
        reward = step.reward.sign() if env.spec.reward_transform == "sign" else step.reward
        earned += torch.where(playing & step.valid, reward, 0.0)
        steps += (playing & step.valid).sum()
        over = playing & (step.terminated | step.truncated)
        returns.append(torch.where(over, earned, torch.nan))
        earned, closed = torch.where(over, 0.0, earned), closed | over
        playing = playing & ~step.ended
        observation, opens = step.observation, ~step.valid
        if played % 32 == 0 and not playing.any():  # waits for the device
            break
    found = torch.cat([*returns, torch.where(closed, torch.nan, earned)])
    return found[~found.isnan()], steps
