import numpy as np
import pytest
import torch
from torch.testing import assert_close

from envs.gridworld.config import GridConfig
from envs.gridworld.world_pool import ChanceStream
from gridworld import FIRST_TERMINAL, WALL, generate, image

CPU = torch.device("cpu")
SMALL = {"height": 6, "width": 7, "num_worlds": 8, "terminal_probability": 0.05}
NAMES = ("observation", "reward", "terminated", "truncated", "valid", "ended", "state")


def build(num_envs=3, seed=0, render=False, device=CPU, **options):
    return GridConfig(**SMALL | options).build("Gridworld", num_envs, seed, device, render)


def worlds_of(**options):
    config = GridConfig(**SMALL | options)
    return generate(config.worlds(), config.world_seed, range(config.num_worlds))


def random_actions(steps, num_envs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, (steps, num_envs), generator=generator)


def window(config, kinds, cell):
    """The square around a cell, outside of the world wall, row by row."""
    row, column = divmod(cell, config.width)
    reach = range(-config.view_radius, config.view_radius + 1)
    return [
        [
            kinds[(row + down) * config.width + column + right]
            if 0 <= row + down < config.height and 0 <= column + right < config.width
            else WALL
            for right in reach
        ]
        for down in reach
    ]


def slow_step(worlds, state, time, action, slip, ends):
    """One step of one agent by row and column; returns all that it leads to."""
    config = worlds.config
    world, cell = divmod(state, config.cells)
    kinds = worlds.kind[world].tolist()
    row, column = divmod(cell, config.width)
    down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[(action + slip) % 4]
    target = (row + down) * config.width + column + right
    cell = cell if kinds[target] == WALL else target
    terminated = kinds[cell] >= FIRST_TERMINAL or ends
    truncated = not terminated and 0 < config.max_episode_steps <= time + 1
    return world * config.cells + cell, config.kind_rewards[kinds[cell]], terminated, truncated


@pytest.mark.parametrize("options", [{}, {"view_radius": 2, "max_episode_steps": 6}])
def test_every_step_is_the_one_of_a_slow_scalar_simulator(options):
    options = {"action_noise": 0.3, "termination_probability": 0.05} | options
    num_envs = 5
    env, worlds = build(num_envs, seed=7, **options), worlds_of(**options)
    # The same chance once more: what it is like is the subject of test_grid_chance.py.
    chances = ChanceStream(worlds.config, len(worlds), num_envs, 7, CPU)
    chances.draw()  # of the reset at the beginning
    observation = env.reset()
    state = [int(worlds.start[world]) for world in chances.draw()[1]]
    time, over = [0] * num_envs, [False] * num_envs
    kinds = worlds.kind.tolist()
    ends_seen = set()
    for action in random_actions(120, num_envs):
        for seen, place in zip(observation.tolist(), state, strict=True):
            world, cell = divmod(place, worlds.config.cells)
            assert seen == window(worlds.config, kinds[world], cell)
        step = env.step(action)
        chance, world = chances.draw()
        for i in range(num_envs):
            expected = (0.0, False, False, not over[i])
            if over[i]:
                state[i], time[i], over[i] = int(worlds.start[world[i]]), 0, False
            else:
                place = (state[i], time[i], int(action[i]))
                state[i], reward, terminated, truncated = slow_step(
                    worlds, *place, int(chance.slip[i]), bool(chance.ends[i])
                )
                time[i], over[i] = time[i] + 1, terminated or truncated
                expected = (reward, terminated, truncated, True)
                ends_seen.add((terminated, truncated))
            fields = (step.reward, step.terminated, step.truncated, step.valid)
            assert tuple(field[i].tolist() for field in fields) == expected
            assert bool(step.ended[i]) == over[i]
        assert step.state.tolist() == state
        observation = step.observation
    assert ends_seen >= {(False, False), (True, False)}
    assert ((False, True) in ends_seen) == ("max_episode_steps" in options)


def test_an_environment_plays_the_same_however_many_play_beside_it():
    few, many = build(num_envs=3), build(num_envs=5)
    assert torch.equal(few.reset(), many.reset()[:3])
    for action in random_actions(80, 5):
        mine, theirs = few.step(action[:3]), many.step(action)
        for name in NAMES:
            assert torch.equal(getattr(mine, name), getattr(theirs, name)[:3])


def test_every_world_of_the_pool_is_played_from_its_start():
    env, worlds = build(num_envs=40), worlds_of()
    env.reset()
    begun = env.state.unique()
    # 40 draws miss one of eight worlds by one chance in 26, two resets both by one in 700.
    env.reset()
    assert torch.equal(torch.cat([begun, env.state]).unique(), worlds.start)


def test_the_state_is_that_of_the_latest_observation():
    env = build()
    for action in random_actions(30, 3):
        step = env.step(action)
        assert torch.equal(env.state, step.state)


def test_the_encodings_show_the_same_windows_of_the_same_game():
    symbols, planes, flat = (build(observation=name) for name in ("symbols", "one-hot", "flat"))
    for env in (symbols, planes, flat):
        env.reset()
    for action in random_actions(40, 3):
        seen, plane, vector = (env.step(action).observation for env in (symbols, planes, flat))
        assert torch.equal(plane.argmax(1).to(torch.uint8), seen)
        assert (plane.sum(1) == 1).all()
        assert torch.equal(vector, plane.flatten(1))


def test_the_optimum_is_of_the_world_that_is_played_to_its_end():
    env, worlds = build(num_envs=6), worlds_of()
    known = env._pool.optimum
    assert len(known.unique()) > 1
    env.reset()
    changed = False
    for action in random_actions(100, 6):
        before = env.optimum
        step = env.step(action)
        assert_close(env.optimum, known[env.state // worlds.config.cells])
        # An end is still the old episode's; only the autoreset may bring another world.
        assert torch.equal(env.optimum[step.valid], before[step.valid])
        changed |= not torch.equal(env.optimum, before)
    assert changed
    assert build(termination_probability=0.0).optimum is None


def test_an_optimum_is_found_soon_however_long_episodes_may_be():
    soon, never = (build(max_episode_steps=steps)._pool.optimum for steps in (10**12, 0))
    assert_close(soon, never)


def test_each_state_has_its_row_in_the_tables_of_the_teachers():
    env = build()
    assert env.teachers[0] == "optimal"
    table = env.teacher_logits("optimal")
    assert table.shape == (8 * 6 * 7, 4)
    # Nobody acts on walls: all actions are worth nothing there.
    assert not table[worlds_of().wall.flatten()].any()


def test_a_snapshot_of_other_worlds_is_refused():
    snapshot = build(world_seed=1).snapshot()
    with pytest.raises(ValueError, match="Gridworld was left in other worlds than these"):
        build().restore(snapshot)


def test_a_snapshot_is_not_changed_by_what_is_played_later():
    env = build()
    env.reset()
    snapshot = env.snapshot()
    before = {name: tensor.clone() for name, tensor in snapshot.items()}
    for action in random_actions(20, 3):
        env.step(action)
    assert all(torch.equal(before[name], snapshot[name]) for name in before)


def test_a_snapshot_goes_on_across_the_numbers_made_ahead():
    # 2**15 / 6000: five steps are made ahead.
    env = build(num_envs=6000)
    for action in random_actions(3, 6000):
        env.step(action)
    other = build(num_envs=6000, seed=5)
    other.restore(env.snapshot())
    for action in random_actions(9, 6000, seed=1):
        mine, theirs = env.step(action), other.step(action)
        for name in NAMES:
            assert torch.equal(getattr(mine, name), getattr(theirs, name))


def test_a_picture_is_that_of_the_whole_world_with_the_agent_in_it():
    env, worlds = build(render=True), worlds_of()
    for action in random_actions(7, 3):
        env.step(action)
    for index in range(3):
        world, cell = divmod(int(env.state[index]), worlds.config.cells)
        np.testing.assert_array_equal(env.render(index), image(worlds, world, cell))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_the_gpu_never_waits_for_it_and_is_that_of_the_cpu(never_waits):
    device = torch.device("cuda")
    env, twin = build(device=device), build()
    action = torch.ones(3, dtype=torch.int64, device=device)
    env.step(action)
    with never_waits():
        steps = [env.step(action) for _ in range(40)]
    twin.step(action.cpu())
    for mine in steps:
        theirs = twin.step(action.cpu())
        for name in NAMES:
            assert torch.equal(getattr(mine, name).cpu(), getattr(theirs, name))
