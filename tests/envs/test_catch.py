import pytest
import torch

from envs.catch import CatchConfig

CPU = torch.device("cpu")


def slow_episode(rows, columns, ball, actions):
    """Plays one episode cell by cell, as bsuite's Catch does; yields board and reward."""
    paddle = columns // 2
    for row, action in enumerate(actions, start=1):
        paddle = min(max(paddle + (-1, 0, 1)[action], 0), columns - 1)
        board = [[0.0] * columns for _ in range(rows)]
        board[row][ball] = 1.0
        board[rows - 1][paddle] = 1.0
        landed = row == rows - 1
        yield board, (1.0 if paddle == ball else -1.0) if landed else 0.0, landed


@pytest.mark.parametrize(("rows", "columns"), [(10, 5), (4, 7), (2, 1)])
def test_every_episode_is_the_one_of_a_slow_scalar_simulator(rows, columns):
    num_envs, episodes = 6, 5
    env = CatchConfig(rows=rows, columns=columns).build("Catch", num_envs, 3, CPU)
    observation = env.reset()
    generator = torch.Generator().manual_seed(1)
    rewards = set()
    for _ in range(episodes):
        action = torch.randint(3, (rows - 1, num_envs), generator=generator)  # [T, B]
        # The ball's column is random: read it off the episode's first board.
        balls = observation[:, 0].argmax(1).tolist()
        expected = [
            list(slow_episode(rows, columns, ball, action[:, b].tolist()))
            for b, ball in enumerate(balls)
        ]
        for t in range(rows - 1):
            step = env.step(action[t])
            boards, earned, landed = zip(*(episode[t] for episode in expected), strict=True)
            assert step.observation.tolist() == list(boards)
            assert step.reward.tolist() == list(earned)
            assert step.terminated.tolist() == list(landed)
            rewards |= set(earned)
        observation = env.step(action[0]).observation  # the autoreset
    assert rewards == ({-1.0, 0.0, 1.0} if columns > 1 else {1.0})


def test_an_episode_opens_with_the_ball_on_top_and_the_paddle_in_the_middle():
    board = CatchConfig().build("Catch", 50, 0, CPU).reset()
    assert board.shape == (50, 10, 5)
    assert (board[:, 0].sum(1) == 1).all()
    assert board[:, -1].tolist() == [[0, 0, 1, 0, 0]] * 50
    assert board.sum() == 100
    # Every column has its balls: none of five is missed by fifty but with odds of 0.8 ** 50.
    assert (board[:, 0].sum(0) > 0).all()


def test_balls_fall_in_columns_of_their_own_in_each_episode():
    env = CatchConfig().build("Catch", 30, 0, CPU)
    first = env.reset()
    for _ in range(10):
        step = env.step(torch.ones(30, dtype=torch.int64))
    assert not torch.equal(step.observation[:, 0], first[:, 0])


def test_a_time_limit_truncates_without_reward_while_the_ball_is_in_the_air():
    env = CatchConfig(max_episode_steps=3).build("Catch", 2, 0, CPU)
    env.reset()
    steps = [env.step(torch.ones(2, dtype=torch.int64)) for _ in range(8)]
    # Three steps, one autoreset, three steps, one autoreset.
    assert [s.truncated.all().item() for s in steps] == [False, False, True, False] * 2
    assert not any(s.terminated.any() for s in steps)
    assert not any(s.reward.any() for s in steps)
    assert steps[2].observation[:, 3].sum() == 2  # the ball in row 3: the true last board


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 1}, "^rows must be at least 2"),
        ({"columns": 0}, "^columns must be at least 1"),
        ({"max_episode_steps": 9}, "^max_episode_steps 9 has no effect"),
        ({"max_episode_steps": -1}, "^max_episode_steps -1 has no effect"),
        ({"rows": 4, "max_episode_steps": 3}, "^max_episode_steps 3 has no effect"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_their_flag(options, message):
    with pytest.raises(ValueError, match=message):
        CatchConfig(**options)


def test_options_are_part_of_the_protocol():
    spec = CatchConfig(rows=6).build("Catch", 2, 0, CPU).spec
    assert spec.protocol == "raw+rows=6"
    assert CatchConfig().build("Catch", 2, 0, CPU).spec.protocol == "raw"


def test_a_picture_shows_ball_and_paddle_by_squares_of_16_pixels():
    env = CatchConfig(rows=4, columns=3).build("Catch", 2, 0, CPU, render=True)
    env.reset()
    board = env.step(torch.tensor([0, 2])).observation[1]  # two paddles apart
    picture = env.render(1)
    assert picture.shape == (4 * 16, 3 * 16, 3)
    cells = picture[8::16, 8::16]  # their middles
    background = cells[2, 0].tolist()
    for row in range(4):
        for column in range(3):
            square = picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            assert (square == cells[row, column]).all()
            shown = cells[row, column].tolist() != background
            assert shown == bool(board[row, column])
    ball, paddle = cells[1][board[1].bool()], cells[-1][board[-1].bool()]
    assert ball.tolist() != paddle.tolist()


def test_a_caught_ball_hides_the_paddle():
    env = CatchConfig(rows=2, columns=1).build("Catch", 1, 0, CPU, render=True)
    env.reset()
    ball = env.render()[0, 0].tolist()
    assert env.step(torch.ones(1, dtype=torch.int64)).reward.item() == 1.0
    assert env.render()[-1, 0].tolist() == ball


def test_a_snapshot_is_not_changed_by_what_is_played_later():
    env = CatchConfig().build("Catch", 4, 0, CPU)
    env.reset()
    snapshot = env.snapshot()
    before = {name: tensor.clone() for name, tensor in snapshot.items()}
    for _ in range(12):
        env.step(torch.zeros(4, dtype=torch.int64))
    assert all(torch.equal(before[name], snapshot[name]) for name in before)
    other = CatchConfig().build("Catch", 4, 99, CPU)
    other.restore(snapshot)
    other.step(torch.zeros(4, dtype=torch.int64))
    assert all(torch.equal(before[name], snapshot[name]) for name in before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_the_gpu_never_waits_for_it(never_waits):
    device = torch.device("cuda")
    env = CatchConfig().build("Catch", 4, 0, device)
    env.reset()
    action = torch.ones(4, dtype=torch.int64, device=device)
    env.step(action)
    with never_waits():
        steps = [env.step(action) for _ in range(12)]
    assert sum(int(s.terminated.sum()) for s in steps) == 4
