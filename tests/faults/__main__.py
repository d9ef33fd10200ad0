"""Tries faults by the hundred and prints what went wrong, and a summary.

    python -m tests.faults --seed 1 --kills 300 --damages 1000 --configs 1000 --lines 10000

It takes half an hour on two cores, and needs Ray, unless --ray-studies is 0.
`tests/faults/test_faults.py` draws a few of each for every day.
"""

import argparse
import functools
import inspect
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.damages import damage
from tests.faults.inputs import edit_configs, parse_lines
from tests.faults.kills import kill
from tests.faults.studies import kill_study

Fault = Callable[[int, int, Path], Iterator[str]]
FAULTS: dict[str, tuple[Fault, int]] = {
    "kills": (kill, 300),
    "local-studies": (kill_study("local"), 20),
    "ray-studies": (kill_study("ray"), 20),
    "damages": (damage, 1_000),
    "configs": (edit_configs, 1_000),
    "lines": (parse_lines, 10_000),
}
"""By name: what tries them, and how many by default."""


def main() -> int:
    """Tries all faults; returns 1 if something went wrong."""
    # For every command line, tyro parses the sources of the options, which stay what they are.
    inspect.findsource = functools.cache(inspect.findsource)
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    for name, (_, usual) in FAULTS.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    given = vars(parser.parse_args())
    summary, failed = [], 0
    for name, (fault, _) in FAULTS.items():
        began, wrong, tried = time.monotonic(), 0, 0
        with tempfile.TemporaryDirectory() as folder:
            if given[name.replace("-", "_")]:
                for said in fault(given["seed"], given[name.replace("-", "_")], Path(folder)):
                    tried += 1
                    wrong += bool(said)
                    if said:
                        print(f"- {said}\n", flush=True)
        minutes = (time.monotonic() - began) / 60
        summary.append(f"{name}: {tried} tried, {wrong} went wrong ({minutes:.0f} min)")
        failed += wrong
    print(f"seed {given['seed']}", *summary, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
