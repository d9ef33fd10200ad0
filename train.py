"""Trains an actor-critic with gated auxiliary losses; `python train.py --help` explains.

`experiments.training.command` has the program: `main` parses the command line (`configs.cli`),
builds the run (`experiments.training.build`) and gives it to a `Trainer`.
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while Python imports ends it without a traceback; `run` takes over from there.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from auxgate.program import run

    sys.exit(run("experiments.training.command"))
