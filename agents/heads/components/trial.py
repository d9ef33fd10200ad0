"""A teacher is tried before the run: it is followed as long as it earns more than its student."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.networks.actor_critic import sample
from agents.teachers import Teacher
from agents.trajectory import Trajectory
from envs.base import VecEnv, guarding

STEP_LIMIT = 2_000
"""Agent steps after which a trial counts the episodes that go on with what they have earned."""
WINDOW = 100
"""Episodes over which the student's mean forgets."""


class Returns(nn.Module):
    """Mean of the returns of about the last `WINDOW` episodes, and how well it is known.

    A return is what the learner sees of an episode: the sum of its rewards after their transform,
    up to a termination (Atari: a life) or a truncation.  Nothing waits for the device.
    """

    earned: Float[Tensor, " B"]
    """By the episodes under way."""
    sums: Float[Tensor, "3"]
    """Weights, weighted returns and weighted squares."""

    def __init__(self, num_envs: int, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("earned", torch.zeros(num_envs, device=device))
        self.register_buffer("sums", torch.zeros(3, device=device))

    def update(
        self, reward: Float[Tensor, "T B"], ends: Bool[Tensor, "T B"], valid: Bool[Tensor, "T B"]
    ) -> None:
        """Adds T steps.

        Args:
            reward: as the learner sees it.
            ends: whether the episode ends with the step.
            valid: False at steps of no episode.
        """
        total = self.earned + torch.where(valid, reward, 0.0).cumsum(0)
        time = torch.arange(len(total), device=total.device).unsqueeze(-1)
        ends = ends & valid
        last = torch.where(ends, time, -1).cummax(0).values  # the last end up to each step
        first = torch.full_like(last[:1], -1)
        since = torch.where(
            (before := torch.cat([first, last[:-1]])) >= 0,
            total.gather(0, before.clamp(min=0)),
            0.0,
        )
        returned = total - since
        counts = ends.float()
        found = torch.stack([counts.sum(), (counts * returned).sum(), (counts * returned**2).sum()])
        self.sums.mul_((1 - 1 / WINDOW) ** found[0]).add_(found)
        self.earned.copy_(torch.where(ends[-1], 0.0, returned[-1]))

    def mean_and_variance(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """The mean, and its squared standard error; infinite before two episodes have ended."""
        weight, total, square = self.sums
        mean = total / weight.clamp(min=1.0)
        spread = (square / weight.clamp(min=1.0) - mean**2).clamp(min=0.0)
        return mean, torch.where(weight >= 2, spread / (weight - 1).clamp(min=1.0), torch.inf)


class Trial(nn.Module):
    """How far a teacher is known to earn more than its student does.

        w = max(0, 2 Phi((m_T - m_S) / sqrt(e_T^2 + e_S^2)) - 1)

    with the mean return m_T of the teacher, played for an episode in every environment before the
    run begins, the mean m_S of the student's last episodes, and their standard errors.  The
    weight is 1 as long as the teacher is clearly ahead, and 0 once the student has caught up, or
    before anything is known.
    """

    standard: Float[Tensor, "2"]
    """The teacher's mean return and its squared standard error; NaN before the trial."""

    def __init__(self, num_envs: int, device: torch.device) -> None:
        """Knows nothing of the teacher yet.

        Args:
            num_envs: B, of the student's environments.
            device: theirs.
        """
        super().__init__()
        self.student = Returns(num_envs, device)
        self.register_buffer("standard", torch.full((2,), torch.nan, device=device))

    @torch.no_grad()
    def hold(
        self,
        teacher: Teacher,
        policy: Callable[[Tensor], Tensor],
        env: VecEnv,
        generator: torch.Generator,
    ) -> None:
        """Plays an episode of the teacher in every environment.

        Args:
            teacher: to be tried.
            policy: from its logits to the probabilities that the student will learn from.
            env: where the student will learn; to be reset afterwards.
            generator: what actions are drawn from, on the environments' device.
        """
        with guarding(env.spec.name):
            observation = env.reset()
        num_envs, device = env.spec.num_envs, env.device
        earned = torch.zeros(num_envs, device=device)
        alive = torch.ones(num_envs, dtype=torch.bool, device=device)
        opens = alive
        none = torch.zeros((1, num_envs), device=device)
        for played in range(1, STEP_LIMIT + 1):
            moment = Trajectory(
                action=none.long(),
                reward=none,
                terminated=none.bool(),
                truncated=none.bool(),
                valid=~none.bool(),
                log_probability=none,
                observation=torch.stack([observation, observation]),
                state=None if env.state is None else torch.stack([env.state, env.state]),
                episode_start=opens,
            )
            action = sample(policy(teacher(moment)[0]).log(), generator).action
            teacher.acted(action)
            with guarding(env.spec.name):
                step = env.step(action)
            reward = step.reward.sign() if env.spec.reward_transform == "sign" else step.reward
            earned += torch.where(alive & step.valid, reward, 0.0)
            alive = alive & ~(step.terminated | step.truncated)
            observation, opens = step.observation, ~step.valid
            if played % 32 == 0 and not alive.any():  # waits for the device
                break
        teacher.memory = None
        variance = earned.var() if num_envs > 1 else torch.tensor(torch.inf)
        self.standard.copy_(torch.stack([earned.mean(), (variance / num_envs).to(device)]))

    def forward(self, trajectory: Trajectory) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Takes in the student's trajectory; returns the weight, and how far the teacher leads."""
        over = trajectory.terminated | trajectory.truncated
        self.student.update(trajectory.reward, over, trajectory.valid)
        mean, variance = self.student.mean_and_variance()
        lead = self.standard[0] - mean
        spread = (self.standard[1] + variance).sqrt()
        certainty = torch.erf(lead / (2**0.5 * spread.clamp(min=1e-12)))  # 2 Phi - 1
        return certainty.clamp(min=0.0), lead
