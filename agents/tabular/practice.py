"""On-policy actor-critic for S students at once: play, then judge what was done.

Sampled gradients as practice has them: generalised advantages (Schulman et al. 2016,
https://arxiv.org/abs/1506.02438) from a learnt critic, and every step counts alike,
although the gradient of the discounted return weighs step t by discount**t (Thomas
2014, "Bias in natural actor-critic algorithms").  With `discount_weights`, `trace` 1
and an exact critic the mean of the gradients is the exact one; a test shows it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from agents.runtime.random import generator
from agents.statistics import ReturnSums, returns_so_far
from agents.tabular.students import Signal, Students
from gridworld import NUM_ACTIONS, Chance, draw_chance, restart, step
from gridworld.options import at_least, require


@dataclass(frozen=True)
class SampledConfig:
    """How students gather experience; our choices."""

    num_envs: int = 16
    """Environments of each student."""
    unroll_length: int = 32
    """Agent steps in each environment per update."""
    trace: float = 0.95
    """Lambda of the generalised advantages."""
    critic_rate: float = 0.5
    """By how much of its mean error an observation's value is corrected at each update."""
    discount_weights: bool = False
    """Weigh step t of an episode by discount**t, as the exact gradient does."""

    def __post_init__(self) -> None:
        at_least(self, 1, "num_envs", "unroll_length")
        for name in ("trace", "critic_rate"):
            require(self, name, 0 <= getattr(self, name) <= 1, "from 0 to 1")


@dataclass(frozen=True)
class _Unroll:
    """What one unroll leaves behind; written over and over, since fresh memory costs more."""

    row: Int64[Tensor, "N lanes"]
    """Student and observation, as an index into all their values; the one after the last step
    included, N = T + 1."""
    entry: Int64[Tensor, "T lanes"]
    """Student, action and observation, as an index into all their logits."""
    place: Int64[Tensor, "T lanes"]
    """Student and cell."""
    time: Int64[Tensor, "T lanes"]
    """Agent steps since the episode's start."""
    reward: Float32[Tensor, "T lanes"]
    goes_on: Float32[Tensor, "T lanes"]
    """0 where the episode ended, else 1."""

    @staticmethod
    def empty(steps: int, lanes: int, device: torch.device) -> "_Unroll":
        index = torch.zeros(4 * steps + 1, lanes, dtype=torch.int64, device=device)
        number = torch.zeros(2 * steps, lanes, device=device)
        return _Unroll(*index.split([steps + 1, steps, steps, steps]), *number.split(steps))


class Practice:
    """Plays the students' episodes, and corrects their critics.

    Students of one stream meet the same randomness (their own dice, slips and ends), so that
    arms of an experiment are paired, and one draw serves them all.
    """

    def __init__(
        self,
        students: Students,
        config: SampledConfig,
        stream: Int64[Tensor, " S"],
        seed: int,
        *,
        tells_returns: bool = False,
    ) -> None:
        """Starts an episode in every environment of every student.

        Args:
            students: play here; a `Lesson` updates their policies.
            config: how much is played and how the critics learn.
            stream: the number of the randomness that each student meets, from 0 on.
            seed: of all randomness.
            tells_returns: whether its signals say what the students' latest episodes earned.

        Raises:
            ValueError: the worlds have a time limit, which exact returns ignore.
        """
        if students.worlds.config.max_episode_steps:
            raise ValueError(
                "max_episode_steps must be 0 for tabular students: exact returns ignore it."
            )
        self._students, self._config, self._stream = students, config, stream
        self._tells_returns = tells_returns
        device, envs = students.worlds.device, config.num_envs
        self._generator = generator(seed, "practice", device)
        # Before any update: a wait for the device.
        self._num_streams = int(stream.amax()) + 1
        number = torch.arange(len(students), device=device)
        self._world = students.world.repeat_interleave(envs)
        self._own_rows = (number * students.num_observations).repeat_interleave(envs)
        # From a cell of the pool to one of the student's own.
        cells = students.worlds.config.cells
        self._own_cells = ((number - students.world) * cells).repeat_interleave(envs)
        self._state = students.worlds.start.index_select(0, self._world)
        self._time = torch.zeros_like(self._state)
        lanes = len(self._state)
        self._earned = torch.zeros(lanes, device=device)
        self._returns = ReturnSums(torch.zeros((3, len(students)), device=device))
        self._unroll = _Unroll.empty(config.unroll_length, lanes, device)

    def signal(self) -> Signal:
        """Plays one unroll with the current policies, and corrects the critics by it.

        Visits and advantages are averaged over the unroll's steps.
        """
        self._play()
        students, config, unroll = self._students, self._config, self._unroll
        discount = students.worlds.config.discount
        row = unroll.row[:-1].view(-1)
        value = students.value.view(-1).index_select(0, unroll.row.view(-1))
        advantage = advantages(
            unroll.reward,
            value.view_as(unroll.row),
            unroll.goes_on,
            discount=discount,
            trace=config.trace,
        ).view(-1)
        weight = torch.ones_like(advantage)
        count = torch.zeros_like(students.value).view(-1).scatter_add_(0, row, weight)
        error = torch.zeros_like(count).scatter_add_(0, row, advantage)
        students.value.view(-1).addcdiv_(error, count.clamp_(min=1.0), value=config.critic_rate)

        if config.discount_weights:
            weight = discount ** unroll.time.view(-1)
            advantage = advantage * weight
        size, cells = len(students), students.worlds.config.cells
        credit = error.new_zeros(NUM_ACTIONS * len(error))
        credit.scatter_add_(0, unroll.entry.view(-1), advantage)
        visits = error.new_zeros(size * cells)
        visits.scatter_add_(0, unroll.place.view(-1), weight)
        steps = config.unroll_length * config.num_envs
        mean, variance = self._latest_returns() if self._tells_returns else (None, None)
        return Signal(
            credit=credit.div_(steps).view(NUM_ACTIONS, size, -1).transpose(0, 1),
            visits=visits.div_(steps).view(size, cells),
            mean_return=mean,
            return_variance=variance,
        )

    def _latest_returns(self) -> tuple[Float32[Tensor, " S"], Float32[Tensor, " S"]]:
        """Discounted returns of the episodes that have just ended, averaged with earlier ones."""
        unroll, discount = self._unroll, self._students.worlds.config.discount
        ends = unroll.goes_on == 0
        returned = returns_so_far(self._earned, unroll.reward * discount**unroll.time, ends)
        self._earned = torch.where(ends[-1], 0.0, returned[-1])
        # From [T, S * envs] to an episode in each row and a student in each column.
        shape = (len(ends), len(self._students), -1)
        rows = [part.view(shape).transpose(1, 2).flatten(0, 1) for part in (returned, ends)]
        self._returns.add(*rows)
        return self._returns.mean_and_variance()

    def _play(self) -> None:
        """Plays one unroll with the current policies."""
        worlds, unroll = self._students.worlds, self._unroll
        observation = worlds.observation.view(-1)
        # [A - 1, S * O]: the number of an action is how many of these its die exceeds.
        levels = self._students.policy()[:, :-1].cumsum(1).transpose(0, 1).flatten(1).contiguous()
        die, chance = self._draw()
        for t in range(self._config.unroll_length):
            row = torch.add(observation.index_select(0, self._state), self._own_rows)
            choice = torch.zeros_like(row, dtype=torch.uint8)
            for level in levels:
                choice += (die[t] > level.index_select(0, row)).view(torch.uint8)
            action = choice.long()
            after = step(worlds, self._state, self._time, action, chance[t])
            unroll.row[t] = row
            torch.add(row, action, alpha=levels.shape[1], out=unroll.entry[t])
            torch.add(self._state, self._own_cells, out=unroll.place[t])
            unroll.time[t] = self._time
            unroll.reward[t] = after.reward
            # By way of bytes: torch converts booleans slowly.
            unroll.goes_on[t] = after.terminated.logical_not().view(torch.uint8)
            self._state, self._time = restart(
                worlds, after.state, after.time, after.terminated, self._world
            )
        torch.add(observation.index_select(0, self._state), self._own_rows, out=unroll.row[-1])

    def _draw(self) -> tuple[Float32[Tensor, "T lanes"], Chance]:
        """Draws dice, slips and ends once per stream, and deals them to its students."""
        config, device = self._config, self._state.device
        shape = (config.unroll_length, self._num_streams, config.num_envs)
        die = torch.rand(shape, generator=self._generator, device=device)
        chance = draw_chance(self._students.worlds.config, shape, self._generator)

        def dealt(table: Tensor) -> Tensor:
            return table.index_select(1, self._stream).flatten(1)

        return dealt(die), Chance(dealt(chance.slip), dealt(chance.ends))


def advantages(
    reward: Float32[Tensor, "T lanes"],
    value: Float32[Tensor, "T+1 lanes"],
    goes_on: Float32[Tensor, "T lanes"],
    *,
    discount: float,
    trace: float,
) -> Float32[Tensor, "T lanes"]:
    """Generalised advantages, as `returns.gae` without truncation, in a quarter of its time.

    Args:
        reward: of each step.
        value: of each observation; the one after an end belongs to the next episode.
        goes_on: 0 where the episode ended, else 1.
        discount: of the returns.
        trace: lambda.
    """
    result = torch.sub(reward, value[:-1])
    ahead = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        # r - V + discount [goes on] (V' + lambda A')
        ahead = value[t + 1].add(ahead, alpha=trace)
        ahead = result[t].addcmul_(goes_on[t], ahead, value=discount)
    return result
