"""Our gridworld, seen through the window of each peer: 5x5 as a rule, 11x11 for PufferLib."""

from dataclasses import replace

import torch

from benchmarks.gridworlds import Options, player
from benchmarks.stepping.protocol import Form, Program
from gridworld import WorldConfig, Worlds, generate

OPTIONS = Options(view_radius=2)
RADII = {"5x5": OPTIONS.view_radius, "11x11": 5}


def program(num_envs: int) -> Program:
    """Generates the pool once and looks at it in both ways."""
    torch.set_num_threads(1)
    worlds = generate(WorldConfig(), 1, range(OPTIONS.pool))
    return Program(
        f"torch {torch.__version__}",
        {name: form(worlds, radius, num_envs) for name, radius in RADII.items()},
    )


def form(worlds: Worlds, radius: int, num_envs: int) -> Form:
    """The same worlds, seen up to `radius` cells away."""
    config = replace(worlds.config, view_radius=radius)
    seen = Worlds.build(config, worlds.seed, worlds.world_id, worlds.kind, worlds.start_cell)
    unroll = player(seen, num_envs, OPTIONS)

    def play() -> int:
        unroll()
        return OPTIONS.unroll_length * num_envs

    view = f"{config.view_size}x{config.view_size} {str(seen.window.dtype).removeprefix('torch.')}"
    return Form(view, play)
