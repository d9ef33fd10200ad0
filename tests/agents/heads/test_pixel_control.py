from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads.pixel_control import Cells, PixelControlConfig
from agents.masked import masked_mean
from envs.base import EnvSpec
from tests.agents.heads.settings import SPECS, A, B, T, evaluate, make_setting
from tests.agents.learning import collect

ATARI = EnvSpec("Atari", B, (4, 84, 84), torch.uint8, A, "Made", num_frames=4)


@pytest.fixture
def symbols():
    return make_setting("symbols")


def built(spec, **options):
    """A head for an environment, whatever the torso."""
    setting = make_setting("vector")
    return PixelControlConfig(**options).build(replace(setting.context, spec=spec))


def change_of(spec, before, after, cell, margin):
    observation = torch.stack([before, after]).unsqueeze(1).to(spec.observation_dtype)
    return Cells(spec, cell, margin).change(observation)[0, 0]


def test_atari_has_the_papers_twenty_by_twenty_cells_of_the_inner_screen():
    blank = torch.zeros(4, 84, 84)
    marked = blank.clone()
    marked[3, 2, 2] = 255  # a corner of the first cell
    marked[3, 5, 6:8] = 102  # in the second of the first row: 2 * 102 / 255 / 16
    marked[3, 81, 81] = 51  # of the last cell
    marked[3, 1, 40] = marked[3, 82, 40] = 255  # in the margin
    change = change_of(ATARI, blank, marked, cell=4, margin=2)
    assert change.shape == (20, 20)
    expected = torch.zeros(20, 20)
    expected[0, 0], expected[0, 1], expected[19, 19] = 1 / 16, 0.8 / 16, 0.2 / 16
    assert_close(change, expected)
    assert_close(change_of(ATARI, marked, blank, cell=4, margin=2), expected)


def test_of_a_stack_the_newest_frame_counts():
    before, after = torch.zeros(2, 4, 84, 84)
    after[:3] = 255  # what was seen before is pushed to the front of the stack
    assert not change_of(ATARI, before, after, cell=4, margin=2).any()


def test_of_a_colour_image_the_mean_over_colours_counts():
    spec = replace(ATARI, observation_shape=(3, 8, 8), num_frames=1)
    before, after = torch.zeros(2, 3, 8, 8)
    after[0] = 255
    assert_close(change_of(spec, before, after, 4, 0), torch.full((2, 2), 1 / 3))


def test_a_symbol_changes_or_does_not():
    spec = SPECS["symbols"]
    before, after = torch.zeros(2, 3, 5)
    after[1, 4], after[2, 0] = 6, 1  # by how much means nothing
    expected = torch.zeros(3, 5)
    expected[1, 4] = expected[2, 0] = 1.0
    assert torch.equal(change_of(spec, before, after, 1, 0), expected)


def test_amounts_change_by_their_difference():
    spec = replace(SPECS["symbols"], num_symbols=0, observation_dtype=torch.float32)
    before, after = torch.zeros(2, 3, 5)
    after[0, 1], after[1, 1] = 0.5, -2.0
    change = change_of(spec, before, after, 1, 0)
    assert (change[0, 1], change[1, 1], change.sum()) == (0.5, 2.0, 2.5)


@pytest.mark.parametrize(
    ("shape", "grid"), [((84, 84), (9, 9)), ((10, 5), (4, 2)), ((3, 3), (1, 1)), ((1, 2), (1, 1))]
)
def test_the_smallest_map_that_covers_all_cells_is_enlarged(shape, grid):
    # A side of n becomes 2 n + 2: 9 x 9 for the paper's 20 x 20.
    image = shape == (84, 84)
    spec = ATARI if image else replace(SPECS["symbols"], observation_shape=shape)
    head = built(spec, channels=6)
    cells = 400 if image else shape[0] * shape[1]
    assert head.dense.out_features == 6 * grid[0] * grid[1]
    assert head.quality(torch.randn(T + 1, B, 5)).shape == (T + 1, B, A, cells)


def test_bytes_of_a_small_board_are_cells_of_their_own():
    spec = replace(ATARI, observation_shape=(3, 7, 7), num_frames=1)
    assert built(spec).quality(torch.randn(T + 1, B, 5)).shape[-1] == 49


def test_cells_may_be_larger_and_margins_wider():
    head = built(ATARI, cell=9, margin=6)
    assert head.quality(torch.randn(1, B, 5)).shape[-1] == 64  # 72 / 9 squared


def test_advantages_of_the_actions_are_relative():
    head, features = built(SPECS["symbols"]), torch.randn(T + 1, B, 5)
    before = head.quality(features)
    with torch.no_grad():
        head.enlarge.bias[1:] += 7.0  # of all actions alike
    assert_close(head.quality(features), before)
    with torch.no_grad():
        head.enlarge.bias[0] += 7.0  # of the value
    assert_close(head.quality(features), before + 7.0)


def slow_loss(quality, change, trajectory, discount):
    """The paper's n-step Q-learning, cell by cell and step by step."""
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
    torch.nn.init.normal_(head.enlarge.weight)
    output = symbols.agent.unroll(trajectory)
    targets = head.prepare(symbols.agent, trajectory)
    result = head(symbols.agent, output, trajectory, targets)
    quality = head.quality(output.features).detach()
    expected = slow_loss(quality, targets.change, trajectory, discount)
    assert_close(result.loss[result.valid], expected[trajectory.valid])
    assert torch.equal(result.valid, trajectory.valid)


def test_metrics_are_means_over_valid_steps_and_cells(symbols, build_trajectory):
    trajectory = symbols.fill(build_trajectory(length=6, terminated=[(2, 0), (5, 1)]))
    head = PixelControlConfig(discount=0.0).build(symbols.context)
    result = evaluate(head, symbols.agent, trajectory)
    valid = trajectory.valid
    change = head.prepare(symbols.agent, trajectory).change.flatten(2)[valid]  # [steps, cells]
    quality = head.quality(symbols.agent.unroll(trajectory).features).detach()[:-1][valid]
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
    with pytest.raises(ValueError, match=r"--aux pixel_control needs .* Vector have shape \(6,\)"):
        built(SPECS["vector"])


@pytest.mark.parametrize("options", [{"cell": 81}, {"margin": 41}])
def test_a_screen_without_a_whole_cell_is_refused(options):
    with pytest.raises(ValueError, match=r"--aux.pixel-control.cell .* leaves no cell"):
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
def test_a_senseless_option_is_refused_by_the_name_of_its_flag(options):
    flag = f"--aux.pixel-control.{next(iter(options)).replace('_', '-')}"
    with pytest.raises(ValueError, match=flag):
        PixelControlConfig(**options)
