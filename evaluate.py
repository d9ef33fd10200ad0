"""Plays whole episodes with trained policies; `python evaluate.py --help` explains.

`experiments.evaluation.command` has the program: `main` parses the command line, loads the
policies (`experiments.evaluation.players`) and plays, or films one episode.
"""

import sys

from experiments.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main())
