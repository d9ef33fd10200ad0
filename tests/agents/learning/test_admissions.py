"""How much of each head was let in over a run."""

import torch

from agents.learning.gating import GatingConfig
from agents.learning.tallies import Admissions
from tests.agents.updating import Head, Opponent, update_all

NAN = float("nan")


def test_the_sentence_is_the_mean_over_judgements_that_measured() -> None:
    admissions = Admissions(("distill", "curl", "unreached"))
    assert admissions.sentences() == []
    admissions.add(torch.tensor([0.5, 1.0, NAN]), torch.tensor([0.5, NAN, NAN]))
    admissions.add(torch.tensor([0.12, 1.0, NAN]), torch.tensor([-0.5, NAN, NAN]))
    assert admissions.sentences() == [
        "distill: 31 % of its gradient passed, it agreed in 50 % of the judgements.",
        "curl: 100 % of its gradient passed.",
    ]


def test_the_sums_go_on_from_a_checkpoint_and_older_ones_have_none() -> None:
    one, other = Admissions(("aux",)), Admissions(("aux",))
    one.add(torch.tensor([1.0]), torch.tensor([0.3]))
    other.load_state_dict(one.state_dict())
    for each in (one, other):
        each.add(torch.tensor([0.0]), torch.tensor([-0.3]))
    assert other.sentences() == one.sentences()
    other.load_state_dict({})
    assert other.sentences() == []


def test_a_learner_counts_its_judgements_alone(build_learner, collected) -> None:
    learner = build_learner(
        {"aux": Head(), "foe": Opponent()}, "cosine", gating=GatingConfig(every=2)
    )
    metrics = update_all(learner, collected[:4])
    weighed = [each for each in metrics if "aux/passed" in each]
    assert len(weighed) == 2
    passed = sum(float(each["aux/passed"]) for each in weighed) / 2
    agreed = sum(float(each["aux/cosine"] > 0) for each in weighed) / 2
    assert learner.gating.admissions.sentences() == [
        f"aux: {100 * passed:.0f} % of its gradient passed, it agreed in {100 * agreed:.0f} % of "
        "the judgements.",
        "foe: 0 % of its gradient passed, it agreed in 0 % of the judgements.",
    ]
    fresh = build_learner({"aux": Head(), "foe": Opponent()}, gating=GatingConfig(every=2))
    state = learner.state_dict()
    fresh.load_state_dict(state)
    assert fresh.gating.admissions.sentences() == learner.gating.admissions.sentences()
    del state["admissions"]
    fresh.load_state_dict(state)
