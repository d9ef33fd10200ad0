from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch

from agents.networks.actor_critic import ActorCritic, NotFiniteError
from agents.networks.torsos import MlpConfig
from agents.rollout import evaluation
from agents.rollout.evaluation import play, quotas, steps, watch
from agents.runtime.random import generator
from envs.catch import CatchConfig
from envs.gridworld.config import GridConfig


def evaluate(env, build_agent, episodes):
    return play(env, build_agent(env.spec), episodes, generator(0, "evaluation", env.device))


def episode(step, length, last="over"):
    """An episode that earns 1 a step."""
    return [*[step(1.0)] * (length - 1), step(1.0, last)]


@pytest.mark.parametrize(
    ("episodes", "num_envs", "expected"),
    [(7, 3, [3, 2, 2]), (6, 3, [2, 2, 2]), (2, 3, [1, 1, 0]), (0, 2, [0, 0])],
)
def test_episodes_are_shared_out_as_evenly_as_can_be(episodes, num_envs, expected):
    assert quotas(episodes, num_envs) == expected


def test_short_episodes_are_not_favoured(scripted, play, build_agent):
    # While environment 1 plays one episode of ten steps, environment 0 ends five of one step
    # (each with an autoreset after it); only its two count.
    env = scripted([episode(play, 1), episode(play, 10)])
    scores = evaluate(env, build_agent, episodes=4)
    assert scores.returns == (1.0, 1.0, 10.0, 10.0)
    assert scores.lengths == (1, 1, 10, 10)
    assert scores.mean == scores.median == 5.5


def test_an_environment_without_a_share_is_ignored(scripted, play, build_agent):
    env = scripted([episode(play, 3), episode(play, 1)])
    assert evaluate(env, build_agent, episodes=1).returns == (3.0,)


def test_an_episode_is_cut_at_the_limit_and_its_environment_plays_no_other(
    scripted, play, build_agent
):
    # Environment 0 ends both of its episodes; environment 1 is cut in the first of its two.
    env = scripted([episode(play, 3), episode(play, 10)])
    chance = generator(0, "evaluation", env.device)
    scores = evaluation.play(env, build_agent(env.spec), 4, chance, step_limit=4)
    assert scores.returns == (3.0, 3.0, 4.0)
    assert scores.lengths == (3, 3, 4)
    assert scores.unfinished == 1


def test_the_caller_may_give_up(scripted, play, build_agent):
    env = scripted([episode(play, 3)])
    chance = generator(0, "evaluation", env.device)
    told = []

    def tell(done, steps):
        told.append((done, steps))
        if steps == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation.play(env, build_agent(env.spec), 1, chance, tell=tell)
    assert told == [(0, 1), (0, 2)]


def test_a_lost_life_does_not_end_the_count_and_a_time_limit_does(scripted, play, build_agent):
    # Two lives of two and three steps, an autoreset between them: 5 earned in 5 steps.
    game = [*episode(play, 2, "life"), *episode(play, 3)]
    env = scripted([game, episode(play, 4, "limit")])
    scores = evaluate(env, build_agent, episodes=4)
    assert scores.returns == (5.0, 5.0, 4.0, 4.0)
    assert scores.lengths == (5, 5, 4, 4)


def test_rewards_are_counted_raw(scripted, play, build_agent):
    env = scripted([[play(2.5), play(-1.0, "over")]], reward_transform="sign")
    assert evaluate(env, build_agent, episodes=1).returns == (1.5,)


def test_the_same_seed_plays_the_same_episodes(build_catch, build_agent):
    first, second = (evaluate(build_catch(num_envs=3), build_agent, 20) for _ in range(2))
    assert first == second
    assert set(first.returns) == {1.0, -1.0}
    assert first.lengths == (2,) * 20


def test_each_return_has_the_optimum_of_its_own_world_beside_it(build_agent):
    config = GridConfig(height=5, width=6, num_worlds=3, terminal_probability=0.1)
    build = partial(config.build, "Gridworld", 2, 0, torch.device("cpu"))
    scores = evaluate(build(), build_agent, episodes=9)
    # The same once more, by hand: five episodes of one environment and four of the other.
    env, left, optima = build(), [5, 4], [[], []]
    actions = generator(0, "evaluation", env.device)
    for step in steps(env, build_agent(env.spec), actions, env.reset()):
        for index in range(2):
            if step.ended[index] and left[index]:
                left[index] -= 1
                optima[index].append(float(env.optimum[index]))
        if not any(left):
            break
    assert scores.optima == (*optima[0], *optima[1])
    assert len(set(scores.optima)) > 1
    assert scores.optimum == pytest.approx(sum(scores.optima) / 9)


def test_where_nobody_knows_the_optimum_none_is_told(build_catch, build_agent):
    scores = evaluate(build_catch(), build_agent, 3)
    assert scores.optima == ()
    assert scores.optimum is None


class Counting(ActorCritic):
    """Remembers how many observations of the episode it has read."""

    def __init__(self, spec):
        super().__init__(MlpConfig(widths=(5,)).build(spec.observation_shape), spec.num_actions)
        self.counts = []

    def act(self, observation, generator, core_state=None, reset=None):
        count = torch.zeros(len(observation), 1) if core_state is None else core_state
        count = count if reset is None else torch.where(reset[:, None], 0.0, count)
        self.counts.append((count + 1).squeeze(1).tolist())
        return replace(super().act(observation, generator), core_state=count + 1)


def test_a_recurrent_agent_forgets_where_an_episode_opens_and_nowhere_else(scripted, play):
    # Environment 0 plays episodes of two steps: it reads the first observation, the next, the
    # true last one, and then, after the discarded step, the first of the next episode.
    env = scripted([episode(play, 2), episode(play, 9)])
    agent = Counting(env.spec)
    played = steps(env, agent, generator(0, "evaluation", env.device), env.reset())
    assert len(list(islice(played, 6))) == 6
    assert [count for count, _ in agent.counts] == [1, 2, 3, 1, 2, 3]
    assert [count for _, count in agent.counts] == [1, 2, 3, 4, 5, 6]


def watched(env, build_agent):
    return list(watch(env, build_agent(env.spec), generator(0, "film", env.device)))


def test_an_episode_is_watched_from_the_reset_to_its_end(build_agent):
    env = CatchConfig(rows=4).build("Catch", 2, 0, torch.device("cpu"), render=True)
    moments = watched(env, build_agent)
    # The ball falls through four rows in three steps.
    assert [moment.step for moment in moments] == [0, 1, 2, 3]
    assert [moment.ended for moment in moments] == [False, False, False, True]
    assert [moment.score for moment in moments[:3]] == [0, 0, 0]
    assert moments[3].score in (1.0, -1.0)
    for row, moment in enumerate(moments[:3]):
        cells = moment.picture[::16, ::16]  # Catch draws each cell as 16 x 16 pixels
        ball = [place for place in range(4) if len(np.unique(cells[place], axis=0)) > 1]
        assert ball == [row, 3]  # and the paddle in the last row
    np.testing.assert_array_equal(moments[3].picture, env.render())


def test_a_lost_life_does_not_end_what_is_watched(scripted, play, build_agent):
    class Drawn(scripted):
        def render(self, index=0):
            return np.full((2, 3, 3), self._count, np.uint8)

    # Two lives of two and one steps, an autoreset between them that is seen, but no agent step.
    env = Drawn([[*episode(play, 2, "life"), *episode(play, 1)], episode(play, 9)])
    moments = watched(env, build_agent)
    assert [moment.picture[0, 0, 0] for moment in moments] == [0, 1, 2, 3, 4]
    assert [moment.step for moment in moments] == [0, 1, 2, 2, 3]
    assert [moment.score for moment in moments] == [0, 1, 2, 2, 3]
    assert [moment.ended for moment in moments] == [False] * 4 + [True]


def test_a_policy_whose_logits_overflow_is_not_scored(catch, build_agent):
    agent = build_agent(catch.spec)
    with torch.no_grad():
        agent.policy.weight.fill_(3e38)  # finite, unlike what comes of it
        agent.policy.bias.fill_(3e38)
    with pytest.raises(NotFiniteError, match="the logits of the policy are NaN or infinite"):
        play(catch, agent, 1, generator(0, "evaluation", catch.device))
