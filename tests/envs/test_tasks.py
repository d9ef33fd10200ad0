"""Names that join several environments, and how these are divided and played."""

import pytest
import torch

from envs import find
from envs.tasks import TasksConfig, read_tasks

CPU = torch.device("cpu")
PAIR = "Catch+Catch(mirrored=True)"


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("catch+catch(mirrored=True)", PAIR),
        (" Catch + Catch( mirrored = True )", PAIR),
        (
            "gridworld(view_radius=2,layout='maze')+gridworld",
            "Gridworld(layout='maze', view_radius=2)+Gridworld",
        ),
        (
            "Gridworld(terminal_rewards=(-10.0, 5.0))+Catch",
            "Gridworld(terminal_rewards=(-10.0, 5.0))+Catch",
        ),
    ],
)
def test_a_joined_name_has_one_spelling(typed, canonical):
    assert find(typed) == (canonical, "tasks")
    assert find(canonical) == (canonical, "tasks")


def test_labels_are_fit_for_files_and_logs():
    tasks = read_tasks("CartPole-v1+minigrid/Empty-8x8+CartPole-v1(max_episode_steps=9)")
    assert [task.label for task in tasks] == ["CartPole-v1", "minigrid-Empty-8x8", "CartPole-v1-2"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Catch+", "a name is missing"),
        ("+Catch", "a name is missing"),
        ("Catch+Catch", "Catch is given twice"),
        ("Catch+Katch", "Unknown environment 'Katch': did you mean Catch"),
        ("Catch+Catch(mirrored)", "cannot be read: write options as in"),
        ("Catch+Catch(mirrored=True", "cannot be read"),
        ("Catch+Catch(mirrored=__import__('os'))", "cannot be read"),
        ("Catch+Catch(" + "(" * 9999 + ")", "cannot be read"),
        ("Catch+Catch(**{'rows': 3})", "cannot be read"),
        ("Catch+Catch(rows=1e999)", "Catch(rows=1e999) cannot be read"),
        ("Catch+Catch(rows=0x" + "f" * 9999 + ")", "cannot be read"),
        ("Catch(rows=3)", "write Catch and env.rows VALUE for one."),
    ],
)
def test_a_name_that_cannot_be_read_is_refused_in_a_sentence(name, said):
    with pytest.raises(ValueError, match=r".") as refused:
        find(name)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Catch+Catch(mirorred=True)", "Catch has no option mirorred: did you mean mirrored"),
        ("Catch+Catch(rows='x')", "rows cannot be 'x' (expected `int`, got `str`)."),
        ("Catch+Catch(rows=True)", "rows cannot be True (expected `int`, got `bool`)."),
        ("Gridworld+Gridworld(terminal_rewards={1: 2})", "terminal_rewards cannot be {1: 2}"),
        ("Catch+Catch(rows=1)", "rows must be at least 2"),
        ("Catch+Catch(columns=7)", "choose tasks whose observations are alike"),
        ("Catch+Gridworld", "choose tasks whose observations are alike"),
    ],
)
def test_tasks_that_cannot_be_built_are_refused_in_a_sentence(name, said):
    with pytest.raises(ValueError, match=r".") as refused:
        TasksConfig().build(find(name)[0], 4, 0, CPU)
    assert said in str(refused.value)


def test_a_list_in_brackets_is_as_good_as_a_tuple():
    first, second = read_tasks("Gridworld(terminal_rewards=[-1, 1])+Gridworld")
    assert first.config().terminal_rewards == (-1.0, 1.0)
    assert second.config().terminal_rewards != (-1.0, 1.0)


@pytest.mark.parametrize(
    ("share", "num_envs", "sizes"),
    [((), 4, [2, 2]), ((), 5, [2, 3]), ((3, 1), 8, [6, 2]), ((1, 2), 7, [2, 5])],
)
def test_environments_are_divided_as_the_shares_say(share, num_envs, sizes):
    env = TasksConfig(share).build(PAIR, num_envs, 0, CPU)
    assert [task.spec.num_envs for task in env.tasks] == sizes
    assert env.spec.num_envs == num_envs


@pytest.mark.parametrize(
    ("share", "num_envs", "said"),
    [
        ((1, 2, 3), 6, "has 3 numbers for 2 tasks"),
        ((), 1, "leaves a task without an environment: use at least 2"),
        ((1, 9), 5, "leaves a task without an environment: use at least 10"),
    ],
)
def test_shares_that_do_not_fit_are_refused(share, num_envs, said):
    with pytest.raises(ValueError, match=said):
        TasksConfig(share).build(PAIR, num_envs, 0, CPU)
    with pytest.raises(ValueError, match="must be 1 or more"):
        TasksConfig((0, 1))


def test_the_same_action_does_the_opposite_in_a_mirrored_board():
    env = TasksConfig().build(PAIR, 2, 0, CPU)
    env.reset()
    left = env.step(torch.zeros(2, dtype=torch.int64)).observation[:, -1].argmax(-1)
    assert left.tolist() == [1, 3]
    assert [task.action_names[0] for task in env.tasks] == ["LEFT", "RIGHT"]


def test_states_of_cells_stand_next_to_zeros_where_there_are_none():
    worlds = "Gridworld(height=10,width=5,view_radius=2)+Gridworld(height=9,width=5,view_radius=2)"
    env = TasksConfig().build(find(worlds)[0], 2, 0, CPU)
    env.reset()
    assert env.state.shape == (2,)
    assert env.state.tolist() == [int(task.state[0]) for task in env.tasks]
    step = env.step(torch.zeros(2, dtype=torch.int64))
    assert torch.equal(step.state, env.state)
