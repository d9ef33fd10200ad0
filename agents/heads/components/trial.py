"""A teacher is tried before the run: it is followed as long as it earns more than its student."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.networks.actor_critic import sample
from agents.statistics import ReturnSums, certainty, returns_so_far
from agents.teachers import Teacher
from agents.trajectory import Trajectory
from envs.base import VecEnv, guarding

STEP_LIMIT = 2_000
"""Agent steps after which a trial counts the episodes that go on with what they have earned."""


class Trial(nn.Module):
    """How far a teacher is known to earn more than its student does.

        w = max(0, 2 Phi((m_T - m_S) / sqrt(e_T^2 + e_S^2)) - 1)

    with the mean return m_T of the teacher, played for an episode in every environment before the
    run begins, the mean m_S of the student's last episodes, and their standard errors.  The
    weight is 1 as long as the teacher is clearly ahead, and 0 once the student has caught up, or
    before anything is known.  A return is what the learner sees of an episode: the sum of its
    rewards after their transform, up to a termination (Atari: a life) or a truncation.
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

    @torch.no_grad()
    def hold(
        self,
        teacher: Teacher,
        policy: Callable[[Tensor], Tensor],
        env: VecEnv,
        generator: torch.Generator,
    ) -> str:
        """Plays an episode of the teacher in every environment; returns a sentence on it.

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
        steps = torch.zeros((), dtype=torch.int64, device=device)
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
            steps += (alive & step.valid).sum()
            alive = alive & ~(step.terminated | step.truncated)
            observation, opens = step.observation, ~step.valid
            if played % 32 == 0 and not alive.any():  # waits for the device
                break
        teacher.memory = None
        variance = earned.var(correction=min(1, num_envs - 1)) / num_envs
        if num_envs == 1:  # nobody knows
            variance = torch.full_like(variance, torch.inf)
        self.standard.copy_(torch.stack([earned.mean(), variance]))
        mean, error = float(self.standard[0]), float(self.standard[1].sqrt())
        return (
            f"The teacher was tried for {num_envs} episodes ({int(steps):,} steps, which do not "
            f"count): as the learner sees rewards, it earns {mean:.3g} (standard error "
            f"{error:.2g})."
        )

    def forward(self, trajectory: Trajectory) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Takes in the student's trajectory; returns the weight, and how far the teacher leads."""
        valid = trajectory.valid
        ends = (trajectory.terminated | trajectory.truncated) & valid
        returned = returns_so_far(self.earned, torch.where(valid, trajectory.reward, 0.0), ends)
        self.earned.copy_(torch.where(ends[-1], 0.0, returned[-1]))
        student = ReturnSums(self.sums)
        student.add(returned.view(-1, 1), ends.view(-1, 1))
        (mean,), (variance,) = student.mean_and_variance()
        lead = self.standard[0] - mean
        return certainty(lead, self.standard[1] + variance), lead
