"""`train.py` in one of two processes, which meets trouble after some updates.

`python -m tests.experiments.training.two_trainers TROUBLE WHOSE UPDATES RUN`, with the environment
that torchrun gives to a process: after so many updates, the trouble is the leading process's or
both's.
"""

import resource
import shutil
import sys
from pathlib import Path

import torch

from agents.learning.learner import Learner
from agents.runtime.distributed import will_lead
from configs.errors import UsageError
from experiments.training import trainer
from experiments.training.build import Parts
from experiments.training.command import main

UPDATES = 10
FLAGS = (
    "--env Catch --env.rows 4 --num-envs 4 --unroll-length 6 --steps 240 --log-steps 24 --device "
    "cpu --precision fp32 --threads 1 --checkpoint-minutes 1e-9"
)
"""So many updates, a line of the log and a checkpoint after each."""


def spoil(learner, run):
    """Makes the weights infinite."""
    with torch.no_grad():
        learner.agent.policy.bias[0] = torch.inf


def fill_disk(room):
    """No file grows beyond `room` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


def refuse(config, session):
    """In place of `check_evaluation`."""
    raise UsageError("--eval-every: the environments of the evaluations cannot be built")


TROUBLES = {
    "weights": spoil,
    "no room for the log": lambda learner, run: fill_disk(10),
    # Room for what a run is told and logs.
    "no room for a checkpoint": lambda learner, run: fill_disk(20_000),
    "no folder": lambda learner, run: shutil.rmtree(run),
    "no evaluations": lambda learner, run: setattr(trainer, "check_evaluation", refuse),
}


def troubled(trouble, after, run):
    """A learner that meets the trouble after so many updates, or before the first."""
    act = TROUBLES[trouble]

    class Troubled(Learner):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            if after == 0:
                act(self, run)

        def update(self, trajectory):
            metrics = super().update(trajectory)
            if self.updates == after:
                act(self, run)
            return metrics

    return Parts(learner=Troubled)


if __name__ == "__main__":
    trouble, whose, updates, run = sys.argv[1:]
    meets = whose == "both" or will_lead()
    parts = troubled(trouble, int(updates), Path(run)) if meets else Parts()
    sys.exit(main([*FLAGS.split(), "--run-dir", run], parts))
