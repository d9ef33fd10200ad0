"""The two forms in which environments written in JAX are stepped, both compiled.

loop    one call per step, as a learner in another framework, or one that logs, does
scan    8 steps in one call, observations and rewards kept: the most favourable
"""

from collections.abc import Callable
from typing import Any

import jax

from benchmarks.stepping.protocol import Form

SCAN_STEPS = 8

Timestep = Any
"""Whatever the environment returns; has `observation` and `reward`."""


def forms(
    reset: Callable[[Any], Timestep],
    step: Callable[[Timestep, Any], Timestep],
    num_actions: int,
    num_envs: int,
) -> dict[str, Form]:
    """Steps `num_envs` environments with random actions.

    Args:
        reset: starts one environment from a key.
        step: plays one action in one environment, autoreset included.
        num_actions: of the environment.
        num_envs: how many are stepped together.
    """

    def advance(carry: tuple[Any, Timestep], _: None) -> tuple[tuple[Any, Timestep], Any]:
        key, timestep = carry
        key, now = jax.random.split(key)
        action = jax.random.randint(now, (num_envs,), 0, num_actions)
        timestep = jax.vmap(step)(timestep, action)
        return (key, timestep), (timestep.observation, timestep.reward)

    # The memory of the last state serves the next one.
    once = jax.jit(lambda carry: advance(carry, None), donate_argnums=0)
    often = jax.jit(
        lambda carry: jax.lax.scan(advance, carry, None, length=SCAN_STEPS), donate_argnums=0
    )
    first = jax.jit(jax.vmap(reset))(jax.random.split(jax.random.key(0), num_envs))
    view = f"{'x'.join(map(str, first.observation.shape[1:]))} {first.observation.dtype}"

    def player(advanced: Callable[[Any], Any], steps: int) -> Form:
        carry = jax.tree.map(lambda leaf: leaf.copy(), (jax.random.key(1), first))

        def play() -> int:
            nonlocal carry
            carry, seen = advanced(carry)
            jax.block_until_ready((carry, seen))
            return steps * num_envs

        return Form(view, play)

    return {"loop": player(once, 1), "scan": player(often, SCAN_STEPS)}
