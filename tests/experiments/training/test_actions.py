from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads.components.answers import mirrored
from agents.teachers import OtherActionsError, Teacher, export_policy, load_teacher
from configs.cli import parse
from envs.atari import games
from envs.atari.config import AtariConfig
from envs.atari.games import FULL_ACTIONS, action_names
from experiments.training.actions import NEVER, PartialTeacher, has_own_actions, in_students_actions
from experiments.training.build import build
from experiments.training.teachers import SHIPPED_TEACHERS
from tests.agents.cards import CPU, card_of
from tests.experiments.sessions import HARDWARE, SMALL, complaint

BREAKOUT = ("NOOP", "FIRE", "RIGHT", "LEFT")
GAME = SMALL.replace("Catch", "Breakout")


class Fixed(Teacher):
    digest = "of the weights"

    def forward(self, trajectory):
        return torch.tensor([1.0, 3.0, 2.0]).expand(*trajectory.action.shape, 3)


def test_a_teachers_actions_have_their_places_and_others_are_never_taken(collected):
    trajectory = collected[0]
    partial = PartialTeacher(Fixed(), (4, 0, 3), 5)
    logits = partial(trajectory)
    assert logits[0, 0].tolist() == [3.0, NEVER, NEVER, 2.0, 1.0]
    policy = logits.softmax(-1)
    assert policy[0, 0, 1:3].tolist() == [0.0, 0.0]
    expected = Fixed()(trajectory).softmax(-1)
    assert_close(policy[..., [4, 0, 3]], expected)
    assert partial.digest == "of the weights"
    assert partial.memory is None


def test_the_full_set_has_names_and_mirror_images_without_ale_py(monkeypatch):
    monkeypatch.setattr(games, "installed_backends", lambda: ("envpool",))
    assert action_names("Breakout", 18) == FULL_ACTIONS
    assert action_names("Breakout", 4) == ()
    order = mirrored(FULL_ACTIONS)
    for action, image in enumerate(order):
        name = FULL_ACTIONS[action]
        exchanged = name.replace("LEFT", "x").replace("RIGHT", "LEFT").replace("x", "RIGHT")
        assert FULL_ACTIONS[image] == exchanged
    assert sum(image != action for action, image in enumerate(order)) == 12  # 6 of each side


@pytest.mark.atari
@pytest.mark.parametrize("backend", ["envpool", "ale"])
def test_a_games_own_actions_do_the_same_among_all_18(backend):
    own, full = (
        AtariConfig(full_action_space=every, backend=backend).build("Breakout", 2, 3, CPU)
        for every in (False, True)
    )
    assert own.action_names == BREAKOUT
    places = torch.tensor([FULL_ACTIONS.index(name) for name in BREAKOUT])
    assert torch.equal(own.reset(), full.reset())
    draws = torch.Generator().manual_seed(0)
    for _ in range(80):
        action = torch.randint(4, (2,), generator=draws)
        mine, theirs = own.step(action), full.step(places[action])
        assert torch.equal(mine.observation, theirs.observation)
        assert torch.equal(mine.reward, theirs.reward)
    own.close()
    full.close()


@pytest.mark.atari
@pytest.mark.parametrize("flags", ["--env.full-action-space", "--protocol machado"])
@pytest.mark.parametrize("game", ["Breakout", "Pong"])
def test_the_shipped_teacher_of_breakout_teaches_all_18_actions_of_any_game(game, flags):
    line = f"{GAME.replace('Breakout', game)} {flags} --aux distill --aux.distill.mirror"
    session = build(parse([*line.split(), "--teacher", "Breakout"]), HARDWARE)
    head = session.learner.heads["distill"]
    trajectory = session.collector.collect()
    policy = head.prepare(session.learner.agent, trajectory).probabilities
    session.env.close()
    folder = SHIPPED_TEACHERS / "Breakout"
    own = replace(session.env.spec, action_set="Breakout:minimal4", num_actions=4)
    expected = load_teacher(folder, own, CPU, "fp32")(trajectory).softmax(-1)
    # LEFT and RIGHT are exchanged.
    places = [FULL_ACTIONS.index(name) for name in ("NOOP", "FIRE", "LEFT", "RIGHT")]
    assert_close(policy[..., places], expected)
    assert_close(policy.sum(-1), torch.ones(policy.shape[:2]))
    assert (policy > 0).sum(-1).max() <= 4


@pytest.mark.atari
def test_without_ale_py_a_games_own_teacher_is_refused_with_the_cure(monkeypatch):
    monkeypatch.setattr(games, "installed_backends", lambda: ("envpool",))
    said = complaint("--env.full-action-space --aux distill", GAME)
    assert said.startswith("--teacher ")
    assert "has Atari:full18; install ale-py, " in said
    assert said.endswith(
        "(pip install 'auxgate[atari]'), or give a teacher that was trained with all of them."
    )


@pytest.mark.atari
def test_another_games_own_teacher_is_refused_with_the_flag_that_makes_it_fit():
    said = complaint("--aux distill --teacher Breakout", GAME.replace("Breakout", "Pong"))
    assert said.endswith(
        "; add --env.full-action-space, since a game's own actions are some of those 18, or give "
        "a run or an exported policy of Pong."
    )


@pytest.mark.atari
def test_a_teacher_that_remembers_its_actions_is_not_translated(tmp_path):
    session = build(parse(f"{GAME} --core gru".split()), HARDWARE)
    export_policy(tmp_path / "teacher", session.learner.agent, session.card)
    session.env.close()
    said = complaint(
        f"--env.full-action-space --aux distill --teacher {tmp_path / 'teacher'}", GAME
    )
    assert "; give a teacher without a recurrent core, or one that was trained with all 18." in said
    # So the flag is no cure in another game either.
    pong = GAME.replace("Breakout", "Pong")
    said = complaint(f"--aux distill --teacher {tmp_path / 'teacher'}", pong)
    assert said.endswith("; give a run or an exported policy of Pong with the same actions.")


def test_actions_of_no_game_are_not_translated(tmp_path, catch, small_agent):
    export_policy(tmp_path / "teacher", small_agent, card_of(catch.spec))
    assert not has_own_actions(catch.spec)
    assert not has_own_actions(card_of(catch.spec))
    full = replace(catch.spec, action_set="Atari:full18", num_actions=18)
    with pytest.raises(OtherActionsError):
        in_students_actions(lambda spec: load_teacher(tmp_path / "teacher", spec, CPU), full)
