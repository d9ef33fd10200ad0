from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from agents.heads.components.answers import WrongAnswers, mirrored
from agents.heads.distill import DistillConfig
from agents.runtime.random import Stream

T, B, A = 40, 50, 4
CATCH = ("LEFT", "STAY", "RIGHT")


def stream(seed=1):
    return Stream(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (CATCH, [2, 1, 0]),
        (("UP", "RIGHT", "DOWN", "LEFT"), [0, 3, 2, 1]),
        (("NOOP", "UPRIGHTFIRE", "UPLEFTFIRE", "RIGHT", "LEFT"), [0, 2, 1, 4, 3]),
        (("NOOP", "FIRE"), None),  # nothing to exchange
        (("NOOP", "RIGHT"), None),  # no way back
        ((), None),
    ],
)
def test_actions_have_mirror_images_by_their_names(names, expected):
    assert mirrored(names) == expected


def test_the_mirror_exchanges_logits_and_nothing_else():
    logits = torch.tensor([[[1.0, 2.0, 3.0]]])
    wrong = WrongAnswers(mirrored(CATCH))
    assert wrong(logits).tolist() == [[[3.0, 2.0, 1.0]]]
    assert torch.equal(wrong(wrong(logits)), logits)
    assert wrong.state_dict() == {}  # no state: nothing is drawn


def test_a_share_of_the_answers_is_dealt_out_at_random():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(T, B, A)
    answers = WrongAnswers(None, 0.5, stream())(logits)
    assert torch.equal(answers.sort(-1).values, logits)  # as sure as before
    kept = (answers == logits).all(-1).float().mean().item()
    # Half are dealt out, and 1 of 24 of these as they were; 2,000 draws: standard deviation 0.011.
    assert kept == pytest.approx(0.5 + 0.5 / 24, abs=0.05)
    best = answers[(answers != logits).any(-1)].argmax(-1)
    assert best.bincount(minlength=A).min() > 0.15 * len(best)  # of 1/4, less what was kept


@pytest.mark.parametrize(("share", "same"), [(0.0, True), (1.0, False)])
def test_none_or_all_of_the_answers_are_dealt_out(share, same):
    logits = torch.arange(A).float().expand(T, B, A)
    answers = WrongAnswers(None, share, stream())(logits)
    assert torch.equal(answers, logits) == same


def test_a_resumed_run_draws_what_the_whole_one_would_have_drawn(context, agent, build_trajectory):
    config = DistillConfig(random_answers=0.5)
    trajectory = build_trajectory(length=8, batch=6)
    whole = config.build(context)
    whole.prepare(agent, trajectory)
    saved = {name: _copied(value) for name, value in whole.state_dict().items()}
    expected = whole.prepare(agent, trajectory).probabilities
    resumed = config.build(replace(context, stream=lambda name: stream(99)))
    assert not torch.equal(resumed.prepare(agent, trajectory).probabilities, expected)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed.prepare(agent, trajectory).probabilities, expected)


def _copied(value):
    return value.clone() if isinstance(value, torch.Tensor) else value


def test_a_student_of_a_mirrored_teacher_learns_the_exchanged_policy(
    context, agent, teacher, build_trajectory
):
    names = ("NOOP", "FIRE", "RIGHT", "LEFT")
    head = DistillConfig(mirror=True).build(replace(context, action_names=lambda: names))
    trajectory = build_trajectory()
    right = DistillConfig().build(context).prepare(agent, trajectory).probabilities
    wrong = head.prepare(agent, trajectory).probabilities
    assert_close(wrong, right[..., [0, 1, 3, 2]])
    assert not torch.equal(wrong, right)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "does not name its actions"),
        (("NOOP", "UP", "FIRE", "DOWN"), "has NOOP, UP, FIRE, DOWN"),
    ],
)
def test_where_there_is_no_left_the_mirror_is_refused(context, names, said):
    asking = replace(context, action_names=lambda: names)
    with pytest.raises(ValueError, match=f"^mirror exchanges LEFT and RIGHT, but .* {said}: drop"):
        DistillConfig(mirror=True).build(asking)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_0_and_1(share):
    with pytest.raises(ValueError, match=r"^random_answers must be from 0 to 1"):
        DistillConfig(random_answers=share)
