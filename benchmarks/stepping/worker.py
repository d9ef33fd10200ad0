"""One program as a process: `python -m benchmarks.stepping.worker PROGRAM NUM_ENVS CORE`.

Imports `benchmarks.stepping.PROGRAM`, lets every form play, for compilers, and prints a
line of JSON about itself.  Then it answers each line `FORM SECONDS` of its input by one line
of JSON, until the input ends.
"""

import json
import os
import sys
from dataclasses import asdict
from importlib import import_module

from benchmarks.stepping.protocol import Program, burst

WARM_UP = 3
"""Plays of every form that do not count: JAX may compile a second time for its own output."""


def main(arguments: list[str]) -> None:
    """Serves the program that the arguments name."""
    name, num_envs, core = arguments
    if sys.platform == "linux":
        # Before any import that starts threads: these inherit it.
        os.sched_setaffinity(0, {int(core)})
    # The true output is for answers alone: libraries print what they like.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    program: Program = import_module(f"benchmarks.stepping.{name}").program(int(num_envs))
    for form in program.forms.values():
        for _ in range(WARM_UP):
            form.play()
    views = {name: form.view for name, form in program.forms.items()}
    print(json.dumps({"versions": program.versions, "views": views}), file=answers, flush=True)
    for line in sys.stdin:
        form_name, seconds = line.split()
        done = burst(program.forms[form_name].play, float(seconds))
        print(json.dumps(asdict(done)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
