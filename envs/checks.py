"""The contract of environments as assertions, for families in this package and in others."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from itertools import pairwise

import torch
from torch import Tensor

from envs import EnvConfig
from envs.base import Step

B = 2


def check_env(config: EnvConfig, name: str, steps: int = 200) -> None:
    """Checks that an environment keeps the contract of `envs.base.VecEnv`.

    Args:
        config: builds the environment.
        name: of the environment, one that the config lists.
        steps: to play at random; some episodes should end within them.

    Raises:
        AssertionError: one of the assertions failed.
    """
    # The module of `module:Id` registers the id when the environment is built.
    hold(":" in name or name in config.names(), f"names() lists {name}")
    with ExitStack() as stack:
        env, twin, stranger = (
            stack.enter_context(closing(config.build(name, B, seed, torch.device("cpu"))))
            for seed in (0, 0, 1)
        )
        spec = env.spec
        hold(spec.num_envs == B, "the spec says how many environments were built")
        draws = torch.Generator().manual_seed(0)
        actions = torch.randint(spec.num_actions, (steps, B), generator=draws)
        first, played = env.reset(), []
        copies: list[Tensor] = []
        for action in actions:
            played.append(env.step(action))
            copies.append(played[-1].observation.clone())
        shape, kind = (B, *spec.observation_shape), spec.observation_dtype
        for observation in (first, *(step.observation for step in played)):
            hold(observation.shape == shape, f"observations have the spec's shape, {shape}")
            hold(observation.dtype == kind, f"observations have the spec's type, {kind}")
        kept = all(map(torch.equal, copies, (step.observation for step in played)))
        hold(kept, "observations that were handed out do not change later")
        _check_ends(played)
        again = [twin.reset(), *(twin.step(action).observation for action in actions)]
        expected = [first, *copies]
        hold(all(map(torch.equal, again, expected)), "the same seed plays the same trajectory")
        other = [stranger.reset(), *(stranger.step(action).observation for action in actions)]
        differs = not all(map(torch.equal, other, expected))
        hold(differs, "another seed plays another trajectory")
        for wrong in (torch.zeros(B), torch.zeros(B + 1, dtype=torch.int64)):
            try:
                env.step(wrong)
            except Exception:  # a checked annotation may be faster than the environment
                continue
            raise AssertionError("This does not hold: a wrong action is refused.")


def _check_ends(played: Sequence[Step]) -> None:
    """The table of `envs.base`: what is true at the end of an episode and after it."""
    hold(bool(played[0].valid.all()), "the first step after a reset is valid")
    for step in played:
        hold(step.reward.dtype == torch.float32, "rewards are float32")
        for name in ("reward", "terminated", "truncated", "valid", "ended"):
            hold(getattr(step, name).shape == (B,), f"{name} has the shape [B]")
        both = bool((step.terminated & step.truncated).any())
        hold(not both, "a step that terminates is not truncated as well")
        done = step.terminated | step.truncated
        hold(not bool((step.ended & ~done).any()), "an episode ends by one of the two ends")
        hold(not bool((step.truncated & ~step.ended).any()), "a truncation ends an episode")
    for before, step in pairwise(played):
        invalid = before.terminated | before.truncated
        right = torch.equal(step.valid, ~invalid)
        hold(right, "a step is invalid exactly after a step that terminated or was truncated")
        hold(not bool(step.reward[invalid].any()), "an invalid step earns nothing")
        ends = (step.terminated | step.truncated | step.ended)[invalid]
        hold(not bool(ends.any()), "an invalid step ends nothing")


def hold(holds: bool, what: str) -> None:
    """Raises an `AssertionError` that says what does not hold, unless it holds."""
    if not holds:
        raise AssertionError(f"This does not hold: {what}.")
