"""Compares gates and teachers in many gridworlds; `python sweep.py --help` explains.

`experiments.sweep.command` has the program: `main` parses the command line, prepares the folder
(`experiments.sweep.folder`) and computes the chunks that it lacks.
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C while Python imports ends it without a traceback; `run` takes over from there.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from auxgate.program import run

    sys.exit(run("experiments.sweep.command"))
