"""Twenty updates must stay what they were: any change of the numerics shows here.

`make golden` rewrites the losses, in a commit that says numerics-changing.
"""

import csv
from pathlib import Path

import pytest
import torch

from agents.agent import ActorCritic, Choice
from agents.collect import Collector
from agents.gates import make
from agents.heads import Schedule
from agents.heads.distill import Distill
from agents.learner import Learner, LearnerConfig
from agents.losses import A2CConfig
from agents.seeding import generator, seeded
from agents.teacher import NetworkTeacher, PolicyCard
from agents.torsos.mlp import MlpConfig
from envs.catch import CatchConfig

GOLDEN = Path(__file__).parent / "golden" / "catch_cosine.csv"
CPU = torch.device("cpu")
SEED, B, T, UPDATES = 0, 4, 5, 20
COLUMNS = (
    "policy_loss",
    "value_loss",
    "entropy",
    "gradient_norm",
    "distill/loss",
    "distill/cosine",
    "distill/weight",
)


class Portable(ActorCritic):
    """Draws its actions from uniform numbers, which are the same on every machine.

    Exponential ones, which the agent draws, depend on how PyTorch was built.
    """

    @torch.no_grad()
    def act(self, observation, generator, core_state=None, reset=None):
        log_policy = self.logits(observation[None])[0].log_softmax(-1)
        passed = log_policy.exp().cumsum(-1) < torch.rand(len(observation), 1, generator=generator)
        action = passed[:, :-1].sum(-1)
        return Choice(action, log_policy.gather(-1, action[:, None])[:, 0])


def build(spec, component):
    with seeded(SEED, component):
        agent = Portable(MlpConfig(widths=(16, 8)).build(spec.observation_shape), spec.num_actions)
        if component == "teacher":
            torch.nn.init.normal_(agent.policy.weight)
    return agent


def train():
    """Learns Catch from a teacher that knows nothing of it; returns a row of numbers per update."""
    env = CatchConfig().build("Catch", B, SEED, CPU)
    agent = build(env.spec, "agent")
    card = PolicyCard("Catch", "", 3, (10, 5), "torch.float32", "raw", "mlp", {}, 0)
    teacher = NetworkTeacher(build(env.spec, "teacher"), card)
    learner = Learner(
        agent,
        A2CConfig().build(discount=0.99),
        {"distill": Distill(teacher, 0.5, Schedule(1.0, 0.5, B * T * UPDATES))},
        make("cosine"),
        LearnerConfig(
            learning_rate=3e-3,
            learning_rate_end=1e-3,
            total_steps=B * T * UPDATES,
            max_gradient_norm=0.5,
        ),
    )
    collector = Collector(env, agent, generator(SEED, "acting", CPU), T)
    logs = [learner.update(collector.collect()) for _ in range(UPDATES)]
    return [[log[column].item() for column in COLUMNS] for log in logs]


def rewrite():
    """Writes the numbers of today."""
    with GOLDEN.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["update", *COLUMNS])
        for update, row in enumerate(train()):
            writer.writerow([update, *(f"{number:.9g}" for number in row)])


def test_twenty_updates_on_catch_are_what_they_were():
    with GOLDEN.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["update", *COLUMNS]
    expected = [[float(number) for number in row[1:]] for row in rows]
    assert len(expected) == UPDATES
    for update, (mine, golden) in enumerate(zip(train(), expected, strict=True)):
        # Machines differ in the last bits, and later updates build on earlier ones.
        for column, number, wanted in zip(COLUMNS, mine, golden, strict=True):
            assert number == pytest.approx(wanted, rel=1e-5, abs=1e-6), f"{column} at {update}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    rewrite()
