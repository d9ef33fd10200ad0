"""Steps and observations: pure functions of worlds, state, action and given randomness.

One step: the move slips by a random number of quarter turns, a wall stops it, the
reward is that of the cell where it ends, and the episode ends on a terminal cell,
or by chance after any step.  Shapes are fixed and nothing waits for the device, so
a step can be captured in a CUDA graph.

An observation is the square of cells around the agent: `symbols` as bytes, `one_hot` as
planes, `observation_id` as a number per world.  Each is one gather, and writes to `out`
where it is given: at large B a fresh result costs more in page faults than the gather.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from gridworld.config import FIRST_TERMINAL, NUM_ACTIONS, WorldConfig
from gridworld.worlds import Worlds

_BITS = 31
_UNIT = 2**_BITS


@dataclass(frozen=True)
class Chance:
    """The randomness of steps, drawn apart so that arms of an experiment can share it."""

    slip: Int64[Tensor, "*steps"]
    """Clockwise quarter turns by which each move is off: 0 = as intended."""
    ends: Bool[Tensor, "*steps"]
    """Whether the episode ends after the step whatever it led to."""

    def __getitem__(self, step: int) -> "Chance":
        """The randomness of one step of several, `[T, B]` to `[B]`."""
        return Chance(self.slip[step], self.ends[step])


@dataclass(frozen=True)
class Transition:
    """Where a step led, before any autoreset."""

    state: Int64[Tensor, " B"]
    time: Int64[Tensor, " B"]
    """Agent steps since the episode's start."""
    reward: Float32[Tensor, " B"]
    terminated: Bool[Tensor, " B"]
    truncated: Bool[Tensor, " B"]
    """At the time limit, unless terminated."""


def draw_chance(config: WorldConfig, shape: tuple[int, ...], generator: torch.Generator) -> Chance:
    """Draws the randomness of `shape` steps, on the generator's device.

    With probability `action_noise` a move is replaced by any of the four, the intended
    one among them: each quarter turn has a quarter of that probability.  Probabilities
    are rounded to multiples of 2**-30.

    Args:
        config: has the probabilities of a slip and of an episode's end.
        shape: of the result, such as (T, B).
        generator: what the numbers are drawn from.
    """
    if config.action_noise == config.termination_probability == 0:
        nothing = torch.zeros((), dtype=torch.int64, device=generator.device).expand(shape)
        return Chance(nothing, nothing.bool())
    # One draw of 63 bits serves both: drawing costs more than all that follows.
    bits = torch.empty(shape, dtype=torch.int64, device=generator.device)
    bits = bits.random_(generator=generator)
    high = bits >> (_BITS + 1)
    # A negative number shifted until nothing but its sign is left has all bits set, and keeps
    # what it masks; this is much faster than to compare and to fill.
    slips = high - NUM_ACTIONS * round(config.action_noise * _UNIT / NUM_ACTIONS)
    slip = slips.bitwise_right_shift_(63).bitwise_and_(high).bitwise_and_(NUM_ACTIONS - 1)
    low = bits.bitwise_and_(_UNIT - 1)
    return Chance(slip, low < round(config.termination_probability * _UNIT))


def step(
    worlds: Worlds,
    state: Int64[Tensor, " B"],
    time: Int64[Tensor, " B"],
    action: Int64[Tensor, " B"],
    chance: Chance,
) -> Transition:
    """Plays one agent step, also of episodes that are over: reset these first.

    Args:
        worlds: the pool.
        state: flat states.
        time: agent steps since each episode's start.
        action: 0 up, 1 right, 2 down, 3 left; not checked.
        chance: the step's randomness, of `draw_chance`.
    """
    # Modulo 4, by its two lowest bits; the ways are above them.
    entry = (action + chance.slip).bitwise_and_(NUM_ACTIONS - 1)
    entry.bitwise_or_(worlds.state_ways.index_select(0, state))
    arrived = worlds.legend.moves.index_select(0, entry).add_(state)
    kind = worlds.state_kind.index_select(0, arrived).int()
    terminated = (kind >= FIRST_TERMINAL).logical_or_(chance.ends)
    later = time + 1
    limit = worlds.config.max_episode_steps
    return Transition(
        state=arrived,
        time=later,
        reward=worlds.legend.rewards.index_select(0, kind),
        terminated=terminated,
        truncated=(later >= limit) & ~terminated if limit else torch.zeros_like(terminated),
    )


def restart(
    worlds: Worlds,
    state: Int64[Tensor, " B"],
    time: Int64[Tensor, " B"],
    ended: Bool[Tensor, " B"],
    world: Int64[Tensor, " B"],
) -> tuple[Int64[Tensor, " B"], Int64[Tensor, " B"]]:
    """Puts those that ended at the start of a world; returns states and times.

    Args:
        worlds: the pool.
        state: flat states.
        time: agent steps since each episode's start.
        ended: who starts anew.
        world: the world to start in, for all (looked at only for those that ended): the
            same as before, or `draw_worlds`.
    """
    start = worlds.start.index_select(0, world)
    return torch.where(ended, start, state), time.masked_fill(ended, 0)


def draw_worlds(
    worlds: Worlds, shape: tuple[int, ...], generator: torch.Generator
) -> Int64[Tensor, "..."]:
    """Draws worlds of the pool, all equally likely, on the generator's device.

    Args:
        worlds: the pool.
        shape: how many to draw, such as (B,).
        generator: what the numbers are drawn from.

    Returns:
        Places in the pool, from 0 to W - 1.
    """
    return torch.randint(len(worlds), shape, generator=generator, device=generator.device)


def symbols(
    worlds: Worlds, state: Int64[Tensor, " B"], out: UInt8[Tensor, "B view view"] | None = None
) -> UInt8[Tensor, "B view view"]:
    """Looks up the kinds of the cells around each state; outside of the world is wall.

    Args:
        worlds: the pool that the states index.
        state: flat states.
        out: receives the result, to save an allocation.
    """
    return torch.index_select(worlds.state_window, 0, state, out=out)


def one_hot(
    symbol: UInt8[Tensor, "*batch view view"],
    num_kinds: int,
    out: Float32[Tensor, "*batch kinds view view"] | None = None,
) -> Float32[Tensor, "*batch kinds view view"]:
    """Codes symbols as one plane per kind, like an image's channels; flatten it for an MLP.

    Args:
        symbol: what `symbols` gives.
        num_kinds: of the worlds' settings.
        out: where to write.
    """
    if out is None:
        shape = (*symbol.shape[:-2], num_kinds, *symbol.shape[-2:])
        out = torch.empty(shape, dtype=torch.float32, device=symbol.device)
    kind = torch.arange(num_kinds, dtype=torch.uint8, device=symbol.device)
    return torch.eq(symbol.unsqueeze(-3), kind[:, None, None], out=out)


def observation_id(worlds: Worlds, state: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """Looks up the number of what is seen: states of one world that look alike share it."""
    return worlds.observation.view(-1).index_select(0, state)
