from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads.unreal import PixelControlConfig
from agents.statistics import masked_mean
from envs.base import EnvSpec
from tests.agents.heads.settings import SPECS, A, B, T, evaluate, make_setting
from tests.agents.updating import collect

ATARI = EnvSpec("Atari", B, (4, 84, 84), torch.uint8, A, "Made", num_frames=4)


@pytest.fixture
def symbols():
    return make_setting("symbols")


def built(spec, **options):
    """A head for an environment, whatever the torso."""
    setting = make_setting("vector")
    return PixelControlConfig(**options).build(replace(setting.context, spec=spec))


@pytest.mark.parametrize(("side", "grid"), [(84, 9), (80, 9), (76, 8), (36, 3), (40, 4)])
def test_the_smallest_map_that_covers_all_cells_of_an_image_is_enlarged(side, grid):
    # A side of n becomes 2 n + 2: 9 for the paper's 20 cells, 8 for 18, 3 for 8, 4 for 9.
    head = built(replace(ATARI, observation_shape=(4, side, side)), channels=6)
    value, advantage = head.value_and_advantage(torch.randn(T + 1, B, 5))
    cells = ((side - 4) // 4) ** 2
    assert head.maps[0].out_features == 6 * grid * grid
    assert value.shape == (T + 1, B, cells)
    assert advantage.shape == (T + 1, B, A, cells)


def num_cells(head):
    return head.value_and_advantage(torch.randn(1, B, 5))[0].shape[-1]


def test_entries_of_a_board_or_a_window_are_cells_of_their_own():
    assert num_cells(built(SPECS["symbols"])) == 15
    assert num_cells(built(replace(ATARI, observation_shape=(3, 7, 7), num_frames=1))) == 49


def test_cells_may_be_larger_and_margins_wider():
    assert num_cells(built(ATARI, cell=9, margin=6)) == 64  # 72 / 9 squared


def test_cells_lie_where_they_change():
    # Value and advantages of a cell are those of its place in the map.
    head = built(SPECS["symbols"])
    with torch.no_grad():
        head.maps[0].bias.copy_(torch.arange(float(head.maps[0].out_features)))
    value, advantage = head.value_and_advantage(torch.zeros(1, B, 5))
    assert value[0, 0].tolist() == list(range(15))  # row by row
    assert advantage[0, 0, 2].tolist() == list(range(45, 60))


def quality_of(head, output):
    """Q = V + A - mean A (Wang et al. 2016), [N, B, A, cells]."""
    value, advantage = head.value_and_advantage(output.features.detach())
    return (value.unsqueeze(2) + advantage - advantage.mean(2, keepdim=True)).detach()


def slow_loss(quality, change, trajectory, discount):
    """The paper's n-step Q-learning, step by step, with Q of every action in every cell."""
    length, batch = trajectory.action.shape
    loss = torch.zeros(length, batch)
    for b in range(batch):
        after = quality[length, b].amax(0)
        for t in reversed(range(length)):
            if trajectory.terminated[t, b]:
                after = torch.zeros_like(after)
            elif trajectory.truncated[t, b]:
                after = quality[t + 1, b].amax(0)
            after = change[t, b].flatten() + discount * after
            error = after - quality[t, b, trajectory.action[t, b]]
            loss[t, b] = 0.5 * error.square().mean()
    return loss


@pytest.mark.parametrize("discount", [0.0, 0.7])
def test_the_loss_is_that_of_n_step_q_learning(symbols, build_trajectory, discount):
    ends = {"terminated": [(2, 0)], "truncated": [(1, 1)]}
    trajectory = symbols.fill(build_trajectory(length=6, **ends))
    head = PixelControlConfig(discount=discount).build(symbols.context)
    torch.nn.init.normal_(head.maps[0].weight)
    output = symbols.agent.unroll(trajectory)
    targets = head.prepare(symbols.agent, trajectory)
    result = head(symbols.agent, output, trajectory, targets)
    quality = quality_of(head, output)
    # For symbols a change pays 1 - gamma.
    expected = slow_loss(quality, (1 - discount) * targets.change, trajectory, discount)
    assert_close(result.loss[result.valid], expected[trajectory.valid])
    assert torch.equal(result.valid, trajectory.valid)


def test_a_change_of_an_image_pays_what_it_is(build_trajectory):
    setting = make_setting("image")
    head = PixelControlConfig().build(setting.context)
    trajectory = setting.fill(build_trajectory(truncated=[(1, 1)]))
    output = setting.agent.unroll(trajectory)
    targets = head.prepare(setting.agent, trajectory)
    result = head(setting.agent, output, trajectory, targets)
    expected = slow_loss(quality_of(head, output), targets.change, trajectory, 0.9)
    assert_close(result.loss[result.valid], expected[trajectory.valid])


def test_metrics_are_means_over_valid_steps_and_cells(symbols, build_trajectory):
    trajectory = symbols.fill(build_trajectory(length=6, terminated=[(2, 0), (5, 1)]))
    head = PixelControlConfig(discount=0.0).build(symbols.context)
    result = evaluate(head, symbols.agent, trajectory)
    valid = trajectory.valid
    change = head.prepare(symbols.agent, trajectory).change.flatten(2)[valid]  # [steps, cells]
    quality = quality_of(head, symbols.agent.unroll(trajectory))[:-1][valid]
    chosen = torch.stack([q[a] for q, a in zip(quality, trajectory.action[valid], strict=True)])
    assert_close(result.metrics["change"], change.mean())
    # Without a discount the change is the target.
    left = (change - chosen).var(0, correction=0).sum() / change.var(0, correction=0).sum()
    assert_close(result.metrics["explained_variance"], 1 - left)


def test_it_learns_how_catch_changes(build_catch, build_agent, context):
    env = build_catch(num_envs=16)
    agent = build_agent(env.spec)
    played = collect(env, agent, 12)
    head = PixelControlConfig().build(replace(context, spec=env.spec))
    optimizer = torch.optim.Adam([*head.parameters(), *agent.torso.parameters()], lr=0.01)
    losses, explained = [], []
    for trajectory in played * 5:
        result = evaluate(head, agent, trajectory)
        loss = masked_mean(result.loss, result.valid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        explained.append(float(result.metrics["explained_variance"]))
    assert sum(losses[-12:]) < 0.5 * sum(losses[:12])
    assert sum(explained[-12:]) / 12 > 0.5


def test_observations_without_height_and_width_are_refused():
    with pytest.raises(ValueError, match=r"^aux pixel_control needs .* Vector have shape \(6,\)"):
        built(SPECS["vector"])


def test_channels_are_for_images():
    with pytest.raises(ValueError, match=r"^channels is for images, but Symb"):
        built(SPECS["symbols"], channels=6)


@pytest.mark.parametrize("options", [{"cell": 81}, {"margin": 41}])
def test_a_screen_without_a_whole_cell_is_refused(options):
    with pytest.raises(ValueError, match=r"^cell .* leaves no cell"):
        built(ATARI, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": 0},
        {"margin": -1},
        {"discount": 1.0},
        {"discount": -0.1},
        {"channels": 0},
        {"coefficient": -1.0},
    ],
)
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}"):
        PixelControlConfig(**options)
