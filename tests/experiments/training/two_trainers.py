"""`train.py` in one of two processes, whose weights are spoilt after some updates.

`python -m tests.experiments.training.two_trainers WHOSE UPDATES RUN`, with the environment that
torchrun gives to a process: after so many updates, the weights of the leading process or of both
are infinite.
"""

import sys

import torch

from agents.learning.learner import Learner
from agents.runtime.distributed import will_lead
from experiments.training.build import Parts
from experiments.training.command import main

UPDATES = 10
FLAGS = (
    "--env Catch --env.rows 4 --num-envs 4 --unroll-length 6 --steps 240 --log-steps 24 --device "
    "cpu --precision fp32 --threads 1 --checkpoint-minutes 1e-9"
)
"""So many updates, a checkpoint after each."""


def spoiling(after):
    """A learner whose weights are infinite after so many updates."""

    class Spoiling(Learner):
        def update(self, trajectory):
            metrics = super().update(trajectory)
            if self.updates == after:
                with torch.no_grad():
                    self.agent.policy.bias[0] = torch.inf
            return metrics

    return Parts(learner=Spoiling)


if __name__ == "__main__":
    whose, updates, run = sys.argv[1:]
    parts = spoiling(int(updates)) if whose == "both" or will_lead() else Parts()
    sys.exit(main([*FLAGS.split(), "--run-dir", run], parts))
