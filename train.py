"""Trains an actor-critic with gated auxiliary losses; `python train.py --help` explains.

`experiments.training.trainer` has the program: `main` parses the command line (`configs.cli`),
builds the run (`experiments.training.build`) and gives it to a `Trainer`.
"""

import sys

from experiments.training.trainer import main

if __name__ == "__main__":
    sys.exit(main())
