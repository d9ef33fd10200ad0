"""Trains many runs and reports on them; `python study.py --help` explains.

`experiments.running.command` has the program: `main` expands the grid of the command line
(`configs.grid`), finds out what the study's folder lacks and gives it to a backend.
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while Python imports ends it without a traceback; `run` takes over from there.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from auxgate.program import run

    sys.exit(run("experiments.running.command"))
