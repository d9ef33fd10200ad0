from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads.components.masks import FixedMask
from agents.heads.components.views import UNKNOWN
from agents.heads.distill import DistillConfig
from agents.runtime.random import Stream
from agents.teachers import TableTeacher
from envs.base import EnvSpec

T, B, A = 3, 2, 4

SPECS = {
    "Atari": EnvSpec("Atari", B, (4, 84, 84), torch.uint8, A, "", num_frames=4),
    "Procgen": EnvSpec("Procgen", B, (3, 64, 64), torch.uint8, A, ""),
    "MiniGrid": EnvSpec("MiniGrid", B, (20, 7, 7), torch.float32, A, ""),
    "board of bytes": EnvSpec("Board", B, (4, 10, 10), torch.uint8, A, ""),
    "gridworld": EnvSpec("Gridworld", B, (11, 11), torch.uint8, A, "", num_symbols=6),
    "one-hot": EnvSpec("Gridworld", B, (6, 5, 5), torch.float32, A, ""),
    "Catch": EnvSpec("Catch", B, (10, 5), torch.float32, A, ""),
    "vector": EnvSpec("Vector", B, (6,), torch.float32, A, ""),
}
PLACES = {"Atari": 64, "Procgen": 64, "MiniGrid": 49, "board of bytes": 100, "gridworld": 121}
PLACES |= {"one-hot": 25, "Catch": 50, "vector": 6}


def shown(mask, spec, build_trajectory):
    """What a mask leaves of observations of ones."""
    ones = torch.ones(T + 1, B, *spec.observation_shape).to(spec.observation_dtype)
    trajectory = replace(build_trajectory(), observation=ones)
    seen = mask(trajectory)
    assert torch.equal(trajectory.observation, ones), "the student's own are left alone"
    assert seen.observation.dtype == spec.observation_dtype
    return seen.observation


@pytest.mark.parametrize("kind", SPECS)
def test_the_same_places_are_hidden_in_all_channels_of_all_observations(kind, build_trajectory):
    spec = SPECS[kind]
    seen = shown(FixedMask(0.3, spec), spec, build_trajectory)
    hidden = seen != 1
    assert (seen[hidden] == (UNKNOWN if spec.num_symbols else 0)).all()
    flat = hidden.flatten(0, max(1, hidden.dim() - 3))
    assert (flat == flat[0]).all()
    # A third of the places, rounded; the patches of an Atari screen differ by a row.
    count = round(0.3 * PLACES[kind])
    if kind == "Atari":
        assert hidden.float().mean().item() == pytest.approx(count / 64, rel=0.1)
    else:
        assert_close(flat[0].float().mean(), torch.tensor(count / PLACES[kind]))


def test_an_image_is_hidden_in_square_patches(build_trajectory):
    spec = SPECS["Procgen"]
    hidden = FixedMask(0.5, spec).hidden
    patches = hidden.view(8, 8, 8, 8).transpose(1, 2).flatten(2)
    assert (patches == patches[..., :1]).all()
    assert patches[..., 0].sum() == 32
    # 84 is no multiple of 8: patches are 10 or 11 pixels wide.
    hidden = FixedMask(1 / 64, SPECS["Atari"]).hidden
    assert {int(hidden.any(axis).sum()) for axis in (0, 1)} <= {10, 11}


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.5, 3), (1.0, 6)])
def test_at_least_one_place_is_hidden_and_at_most_all_are(share, count):
    assert FixedMask(share, SPECS["vector"]).hidden.sum() == count


def seeded(config, context, seed):
    """A head built as a run of this seed builds it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build(context)


def test_the_places_depend_on_the_seed_alone(context):
    def drawn(seed, rank=0, **options):
        def stream(name):
            return Stream(torch.Generator().manual_seed(rank))

        config = DistillConfig(mask=0.5, **options)
        return seeded(config, replace(context, stream=stream), seed).mask.hidden

    first = drawn(1)
    assert torch.equal(drawn(1, rank=1), first), "processes hide the same"
    assert torch.equal(drawn(1, where="advantage", random_answers=0.5), first)
    assert any(not torch.equal(drawn(seed), first) for seed in (2, 3, 4))


def test_a_teacher_learns_nothing_of_what_is_hidden(context, agent, build_trajectory):
    head = seeded(DistillConfig(mask=0.5), context, 1)
    trajectory = build_trajectory()
    expected = head.prepare(agent, trajectory).probabilities
    assert not torch.equal(
        DistillConfig().build(context).prepare(agent, trajectory).probabilities, expected
    )
    for hides, same in ((head.mask.hidden, True), (~head.mask.hidden, False)):
        other = torch.where(hides, trajectory.observation + 1, trajectory.observation)
        found = head.prepare(agent, replace(trajectory, observation=other)).probabilities
        assert torch.equal(found, expected) == same


def test_a_resumed_run_hides_the_same_places(context):
    whole, resumed = (seeded(DistillConfig(mask=0.5), context, seed) for seed in (1, 3))
    assert not torch.equal(whole.mask.hidden, resumed.mask.hidden)
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(whole.mask.hidden, resumed.mask.hidden)


def test_a_teacher_that_does_not_observe_is_refused(context):
    own = replace(context, load_teacher=lambda path: TableTeacher(torch.eye(A), "a table"))
    with pytest.raises(ValueError, match=r"^mask hides observations, but .* delay or random"):
        DistillConfig(mask=0.5).build(own)
    DistillConfig().build(own)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_0_and_1(share):
    with pytest.raises(ValueError, match=r"^mask must be from 0 to 1"):
        DistillConfig(mask=share)
