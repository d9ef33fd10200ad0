import pytest
import torch

from envs.gridworld.world_pool import ChanceStream
from gridworld import WorldConfig

CPU = torch.device("cpu")


def stream(num_envs=3, seed=0, num_worlds=10, **options):
    return ChanceStream(WorldConfig(**options), num_worlds, num_envs, seed, CPU)


def draws(stream, steps):
    """Slips, ends and worlds of some steps, [T, B] each."""
    chances, worlds = zip(*(stream.draw() for _ in range(steps)), strict=True)
    slip = torch.stack([chance.slip for chance in chances])
    return slip, torch.stack([chance.ends for chance in chances]), torch.stack(worlds)


def test_an_environment_has_the_same_chance_however_many_play():
    few = draws(stream(num_envs=3), 50)
    # So many that only seven steps are made ahead: 2**15 / 4500.
    many = draws(stream(num_envs=4500), 50)
    for one, other in zip(few, many, strict=True):
        assert torch.equal(one, other[:, :3])


def test_a_stream_can_be_taken_up_anywhere():
    whole = draws(stream(num_envs=5000), 40)
    first = stream(num_envs=5000)
    draws(first, 17)
    second = stream(num_envs=5000, seed=99)
    second.go_to(first.keys, first.step)
    assert second.step == 17
    for one, other in zip(draws(second, 23), whole, strict=True):
        assert torch.equal(one, other[17:])
    assert second.step == 40


def test_environments_and_seeds_have_chance_of_their_own():
    slip, _, world = draws(stream(num_envs=20, num_worlds=1000), 300)
    assert len({tuple(column.tolist()) for column in slip.T}) == 20
    assert len({tuple(column.tolist()) for column in world.T}) == 20
    for other in (1, 2**32, 2**62):
        assert not torch.equal(draws(stream(20, other, 1000), 300)[2], world)


def test_slips_and_ends_are_as_frequent_as_the_settings_say_and_independent():
    noise, end, count = 0.3, 0.2, 200_000
    slip, ends, _ = draws(
        stream(num_envs=count // 10, action_noise=noise, termination_probability=end), 10
    )
    for turn in range(4):
        for happens in (False, True):
            # A random move of four is the intended one in a quarter of the cases.
            wanted = noise / 4 + (1 - noise if turn == 0 else 0)
            wanted *= end if happens else 1 - end
            seen = float(((slip == turn) & (ends == happens)).double().mean())
            assert seen == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / count) ** 0.5)


@pytest.mark.parametrize(
    ("options", "slips", "ends"),
    [
        ({"action_noise": 0.0, "termination_probability": 0.0}, {0}, {False}),
        ({"action_noise": 1.0, "termination_probability": 0.0}, {0, 1, 2, 3}, {False}),
        ({"action_noise": 0.0, "termination_probability": 1.0}, {0}, {True}),
        ({"action_noise": 1.0, "termination_probability": 1.0}, {0, 1, 2, 3}, {True}),
    ],
)
def test_what_is_certain_happens_always_and_what_is_impossible_never(options, slips, ends):
    slip, end, _ = draws(stream(num_envs=1000, **options), 20)
    assert set(slip.flatten().tolist()) == slips
    assert set(end.flatten().tolist()) == ends


@pytest.mark.parametrize("num_worlds", [1, 3, 10])
def test_all_worlds_are_equally_likely(num_worlds):
    count = 60_000
    _, _, world = draws(stream(num_envs=count // 10, num_worlds=num_worlds), 10)
    frequency = world.flatten().bincount(minlength=num_worlds) / count
    deviation = (1 / num_worlds * (1 - 1 / num_worlds) / count) ** 0.5
    assert len(frequency) == num_worlds
    assert (frequency - 1 / num_worlds).abs().max() <= 4 * deviation


def test_no_step_repeats_what_an_earlier_one_drew():
    # Of 2000 steps of one environment in a million worlds two agree by chance about twice.
    _, _, world = draws(stream(num_envs=1, num_worlds=10**6), 2000)
    assert len(world.unique()) >= 1985
