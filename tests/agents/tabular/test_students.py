import torch

from agents.tabular import Students
from gridworld import action_values, evaluate, optimal_values, softmax_policy


def fresh(worlds, world=(0, 1)):
    teacher = torch.full((len(world), worlds.config.cells, 4), 0.25)
    return Students.fresh(worlds, torch.tensor(world), teacher)


def test_fresh_students_are_worth_what_the_uniform_policy_is(build_worlds):
    worlds = build_worlds()
    uniform = torch.full((2, 30, 4), 0.25)
    wanted = evaluate(worlds, uniform, worlds.config.discount).expected_return
    torch.testing.assert_close(fresh(worlds).expected_return(), wanted)


def test_students_who_know_what_is_best_reach_the_optimum_where_no_cells_look_alike(build_worlds):
    worlds = build_worlds(view_radius=4)
    students = fresh(worlds)
    value = optimal_values(worlds, 0.99)
    best = softmax_policy(action_values(worlds, value, 0.99), 0.0)
    for student in range(2):
        for cell, seen in enumerate(worlds.observation[student].tolist()):
            if not worlds.wall[student, cell]:
                students.logits[student, :, seen] = 100 * best[student, cell].float()
    optimum = value.gather(1, worlds.start_cell[:, None]).squeeze(1)
    torch.testing.assert_close(students.expected_return(), optimum)


def test_cells_that_look_alike_are_one(build_students):
    students = build_students(view_radius=0)
    policy = students.cell_policy()
    kind = students.worlds.kind[students.world]
    for student in range(3):
        empty = policy[student][kind[student] == 0]
        assert len(empty) > 2
        assert (empty == empty[0]).all()


def test_the_policy_is_the_softmax_of_the_logits(build_students):
    students = build_students()
    # p(a | o) = exp(l(a, o)) / sum_b exp(l(b, o))
    wanted = students.logits.exp() / students.logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(students.policy(), wanted)


def test_descending_subtracts_the_direction_times_the_learning_rate(build_students):
    students = build_students()
    before = students.logits.clone()
    direction = torch.randn(3, students.num_parameters)
    students.descend(direction, 0.5)
    wanted = before - 0.5 * direction.reshape(3, 4, -1)
    torch.testing.assert_close(students.logits, wanted)


def test_a_student_learns_in_the_world_it_is_given(build_worlds):
    worlds = build_worlds()
    there, back = fresh(worlds, (0, 1)).expected_return(), fresh(worlds, (1, 0)).expected_return()
    assert len(fresh(worlds, (1, 0, 1))) == 3
    assert torch.equal(there, back.flip(0))
    assert there[0] != there[1]
