"""Plays whole episodes with trained policies; `python evaluate.py --help` explains.

`experiments.evaluation.command` has the program: `main` parses the command line, loads the
policies (`experiments.evaluation.players`) and plays, or films one episode.
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while Python imports ends it without a traceback; `run` takes over from there.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from auxgate.program import run

    sys.exit(run("experiments.evaluation.command"))
