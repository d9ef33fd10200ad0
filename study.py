"""Trains many runs and reports on them; `python study.py --help` explains.

`experiments.running.command` has the program: `main` expands the grid of the command line
(`configs.grid`), finds out what the study's folder lacks and gives it to a backend.
"""

import sys

from experiments.running.command import main

if __name__ == "__main__":
    sys.exit(main())
