"""Compares gates and teachers in many gridworlds; `python sweep.py --help` explains.

`experiments.sweep.command` has the program: `main` parses the command line, prepares the folder
(`experiments.sweep.folder`) and computes the chunks that it lacks.
"""

import sys

from experiments.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())
