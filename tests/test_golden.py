"""A few updates must stay what they were: any change of the numerics shows here.

`make golden` rewrites the losses, in a commit that says numerics-changing.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from agents.algorithms import A2CConfig, PPOConfig
from agents.gates import make
from agents.heads import Schedule
from agents.heads.distill import Distill
from agents.learning.learner import Learner, LearnerConfig
from agents.networks.actor_critic import ActionSample, ActorCritic
from agents.networks.torsos import MlpConfig
from agents.rollout.collector import Collector
from agents.runtime.random import generator, seeded
from agents.teachers import NetworkTeacher, PolicyCard
from envs.catch import CatchConfig

GOLDEN = Path(__file__).parent / "golden"
CPU = torch.device("cpu")
SEED, B, T = 0, 4, 5
COLUMNS = (
    "policy_loss",
    "value_loss",
    "entropy",
    "gradient_norm",
    "distill/loss",
    "distill/cosine",
    "distill/weight",
)


@dataclass(frozen=True)
class Run:
    """What is trained, and what of it is written down."""

    algorithm: A2CConfig | PPOConfig
    trajectories: int
    learning_rate: float
    columns: tuple[str, ...]


RUNS = {
    "catch_cosine": Run(A2CConfig(), 20, 3e-3, COLUMNS),
    # Four updates a trajectory, whose means are written; in steps that are long enough to be cut.
    "catch_ppo": Run(
        PPOConfig(epochs=2, minibatches=2), 8, 3e-2, (*COLUMNS, "approximate_kl", "clipped")
    ),
}
"""By the names of their files."""


class Portable(ActorCritic):
    """Draws its actions from uniform numbers, which are the same on every machine.

    Exponential ones, which the agent draws, depend on how PyTorch was built.
    """

    @torch.no_grad()
    def act(self, observation, generator, core_state=None, reset=None):
        output = self(observation[None])
        log_policy = output.logits[0].log_softmax(-1)
        passed = log_policy.exp().cumsum(-1) < torch.rand(len(observation), 1, generator=generator)
        action = passed[:, :-1].sum(-1)
        return ActionSample(action, log_policy.gather(-1, action[:, None])[:, 0], output.value[0])


def build(spec, component):
    with seeded(SEED, component):
        agent = Portable(MlpConfig(widths=(16, 8)).build(spec.observation_shape), spec.num_actions)
        if component == "teacher":
            torch.nn.init.normal_(agent.policy.weight)
    return agent


def train(run):
    """Learns Catch from a teacher that knows nothing of it; a row of numbers per trajectory."""
    env = CatchConfig().build("Catch", B, SEED, CPU)
    agent = build(env.spec, "agent")
    card = PolicyCard("Catch", "", 3, (10, 5), "torch.float32", "raw", "mlp", {}, 0)
    teacher = NetworkTeacher(build(env.spec, "teacher"), card)
    algorithm = run.algorithm.build(discount=0.99)
    steps = B * T * run.trajectories
    learner = Learner(
        agent,
        algorithm,
        {"distill": Distill(teacher, 0.5, Schedule(1.0, 0.5, steps))},
        make("cosine"),
        LearnerConfig(
            learning_rate=run.learning_rate,
            learning_rate_end=1e-3,
            total_steps=steps,
            max_gradient_norm=0.5,
        ),
    )
    acting = generator(SEED, "acting", CPU)
    collector = Collector(env, agent, acting, T, records_value=algorithm.needs_value)
    logs = [learner.update(collector.collect()) for _ in range(run.trajectories)]
    return [[log[column].item() for column in run.columns] for log in logs]


def rewrite():
    """Writes the numbers of today."""
    for name, run in RUNS.items():
        with (GOLDEN / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["update", *run.columns])
            for update, row in enumerate(train(run)):
                writer.writerow([update, *(f"{number:.9g}" for number in row)])


@pytest.mark.parametrize("name", RUNS)
def test_a_few_updates_on_catch_are_what_they_were(name):
    run = RUNS[name]
    with (GOLDEN / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["update", *run.columns]
    expected = [[float(number) for number in row[1:]] for row in rows]
    assert len(expected) == run.trajectories
    for update, (mine, golden) in enumerate(zip(train(run), expected, strict=True)):
        # Machines differ in the last bits, and later updates build on earlier ones.
        for column, number, wanted in zip(run.columns, mine, golden, strict=True):
            assert number == pytest.approx(wanted, rel=1e-5, abs=1e-6), f"{column} at {update}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    rewrite()
