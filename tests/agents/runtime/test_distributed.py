"""Two processes that learn together, against one that has the data of both."""

import pytest
import torch
from torch.testing import assert_close

from agents.runtime.distributed import ALONE, Agreement, Processes, join, leave
from tests.agents.two_processes import CASES, UPDATES, B, T, joined, learn, make_learner, weights_of
from tests.side_by_side import run_two

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes made of all cases."""
    folder = tmp_path_factory.mktemp("two")
    codes, errors = run_two("tests.agents.two_processes", lambda rank: [str(rank), str(folder)])
    assert codes == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    """What one process makes of a case, with all environments of its own."""
    made = {}

    def alone(name):
        if name not in made:
            made[name] = learn(CASES[name])
        return made[name]

    return alone


def each_case(function):
    return pytest.mark.parametrize("name", CASES)(function)


def test_the_processes_have_unequal_numbers_of_valid_steps():
    # Else a mean of means would do.
    counts = joined(0, CASES["sum"]).valid.sum(0).tolist()
    assert (sum(counts[:2]), sum(counts[2:])) == (7, 10)


@each_case
def test_two_processes_learn_what_one_learns_from_the_data_of_both(both, alone, name):
    expected = alone(name)
    for mine in (process["learnt"][name] for process in both):
        assert mine["weights"].keys() == expected["weights"].keys()
        for key, weight in expected["weights"].items():
            assert_close(mine["weights"][key], weight, rtol=0, atol=1e-6, msg=key)
        assert (mine["steps"], mine["updates"]) == (expected["steps"], expected["updates"])
        assert mine["skipped"] == expected["skipped"]


@each_case
def test_the_two_never_drift_apart_not_by_a_bit(both, name):
    first, second = (process["learnt"][name]["weights"] for process in both)
    assert all(torch.equal(first[key], second[key]) for key in first)


@each_case
def test_what_is_logged_is_of_both(both, alone, name):
    for log, *logs in zip(
        alone(name)["logs"], *(process["learnt"][name]["logs"] for process in both), strict=True
    ):
        for mine in logs:
            assert mine.keys() == log.keys()
            for key, value in log.items():
                assert_close(mine[key], value, rtol=1e-4, atol=1e-5, equal_nan=True, msg=key)


@each_case
def test_every_case_is_worth_a_test(alone, name):
    case, result = CASES[name], alone(name)
    assert result["steps"] == UPDATES * T * B
    before = weights_of(make_learner(case, ALONE))
    # A gate's memory is not there before it has judged.
    still = {key for key, weight in before.items() if torch.equal(weight, result["weights"][key])}
    assert still == ({"policy.weight", "policy.bias"} if name == "no main loss" else set())
    if case.gate == "cosine" and name != "a head that trains no part of the agent":
        weights = [float(log["aux/weight"]) for log in result["logs"] if "aux/weight" in log]
        assert any(0.01 < weight < 0.99 for weight in weights)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.spoilt])
def test_a_loss_that_is_not_finite_in_one_process_makes_both_skip_the_update(both, name):
    for process in both:
        learnt = process["learnt"][name]
        assert [float(log["skipped"]) for log in learnt["logs"]] == [0.0, 1.0, 1.0]
        assert all(weight.isfinite().all() for weight in learnt["weights"].values())


def test_both_end_the_epochs_together(both, alone):
    name = "ppo that stops early"
    updates = alone(name)["updates"]
    assert updates < UPDATES * CASES[name].algorithm.epochs
    assert [process["learnt"][name]["updates"] for process in both] == [updates, updates]


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        # Whether the trajectory is sound; all means; all gradients.
        ("no head", 3),
        # Also the rows that are weighed, with their losses.
        ("cosine", 4),
        ("two heads", 4),
        # Also the moments of the targets, or of the advantages.
        ("values in their own units", 4),
        ("normalised advantages", 4),
        # Two updates of the advantages' moments, the means, the rows and the private gradients.
        ("ppo", 1 + 2 * 4),
    ],
)
def test_a_trajectory_takes_few_messages(both, alone, name, messages):
    measured = 1  # the first update compares the gradients of policy and value
    for process in both:
        assert process["learnt"][name]["messages"] == UPDATES * messages + measured
    assert alone(name)["messages"] == 0


def test_one_of_them_leads(both):
    assert [process["said"]["leads"] for process in both] == [True, False]
    assert [process["said"]["size"] for process in both] == [2, 2]


def test_sums_are_of_both(both):
    for process in both:
        assert process["said"]["sum"] == [2.0, 1.0]
        # (1, 2) and 10 of the one, twice that of the other.
        assert process["said"]["sums"] == [[3.0, 6.0], 30]
        assert process["said"]["gather"] == [[[1.0, 2.0], [2.0, 4.0]], [10, 20]]


def test_a_mean_is_over_the_valid_entries_of_both_and_shares_add_up_to_it(both):
    # 1, 1, 1 of the one and 2 of the other: 3/4 and 2/4 make 5/4.
    assert [process["said"]["share"] for process in both] == [0.75, 0.5]
    assert [process["said"]["mean"] for process in both] == [1.25, 1.25]
    # A quarter for each valid entry.
    assert [process["said"]["slope"] for process in both] == [0.75, 0.25]
    assert [process["said"]["nothing"] for process in both] == [0.0, 0.0]


def test_both_see_the_flag_of_either_one_update_later(both):
    for process in both:
        assert process["said"]["any"] == [False, False, True, False]


def test_at_the_end_both_see_the_flag_of_either_at_once(both):
    for process in both:
        assert process["said"]["settle"] == [False, True, True]


def test_means_over_updates_are_those_of_both_and_what_was_not_measured_does_not_count(both):
    # Losses 1, 3 and 2, 4; cosines 0.1 and 0.5, 0.3.
    for process in both:
        assert process["said"]["running"] == pytest.approx({"loss": 2.5, "cosine": 0.3})


def test_episodes_are_those_of_both(both):
    # Returns 1, 3, 2, 6 of the one and 5, 7 of the other: 24 / 6.
    for process in both:
        expected = {"finished": 6, "averaged": 6, "mean_return": 4.0, "mean_length": 1.0}
        assert process["said"]["episodes"] == expected
        assert process["said"]["later"] == {**expected, "finished": 0}


# One process.


def test_a_process_that_torchrun_did_not_start_is_alone_and_leads(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join(CPU) is ALONE
    assert Processes(rank=0, size=1) == ALONE
    assert ALONE.leads
    leave()


def test_alone_sums_and_votes_are_ones_own():
    tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    assert torch.equal(ALONE.sum(tensor), tensor)
    assert not ALONE.sum(tensor).requires_grad
    (total,) = ALONE.sums([tensor])
    (every,) = ALONE.gather([tensor])
    assert total.tolist() == [1.0, 2.0]
    assert every.tolist() == [[1.0, 2.0]]
    assert not total.requires_grad
    assert not every.requires_grad
    alone = Agreement(ALONE, CPU)
    assert [alone.any(flag) for flag in (True, False)] == [True, False]
    assert [alone.settle(flag) for flag in (True, False)] == [True, False]
