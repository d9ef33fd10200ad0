"""Kills runs and sweeps until they are done, and compares with those that nobody disturbed."""

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.sweep.command import main as sweep
from experiments.training.command import main as train
from tests.faults.harness import Death, Main, run

SMALL = (
    "--env Catch --env.rows 4 --num-envs 2 --unroll-length 3 --steps 60 --log-steps 12 "
    "--checkpoint-minutes 1e-9 --device cpu --precision fp32 --threads 1"
)
"""Ten updates, a checkpoint after each."""


@dataclass(frozen=True)
class Job:
    """A command, how it goes on, and what must be the same in the end."""

    name: str
    main: Main
    line: str
    """Writes into the folder `job`."""
    resume: str
    compared: tuple[str, ...]


JOBS = (
    *(
        Job(
            f"train {options}".strip(),
            train,
            f"{SMALL} {options} --run-dir job",
            "--resume job",
            ("policy.safetensors",),
        )
        for options in (
            "",
            "--aux inverse --gate cosine",
            "--algo ppo --algo.ppo.minibatches 2 --core gru",
            "--aux value_replay --gate projection",
        )
    ),
    Job(
        "sweep",
        sweep,
        "--worlds 3 --temperatures 0 1 --gates sum cosine --updates 5 --points 2 --seeds 2 "
        "--world.height 6 --world.width 7 --practice.num-envs 2 --practice.unroll-length 3 "
        "--chunk 36 --device cpu --workers 1 --output job",
        "--resume job",
        ("curves.csv", "worlds.csv", "summary.json", "verdicts.txt"),
    ),
)
MOST = 60
"""Operations on files after which a process lives on, at most."""


def results(job: Job, folder: Path) -> dict[str, object]:
    """What a job has made: the bytes of its files, and the steps of its log."""
    made: dict[str, object] = {name: (folder / name).read_bytes() for name in job.compared}
    log = folder / "metrics.csv"
    if log.is_file():
        with log.open(encoding="utf-8", newline="") as file:
            made["steps"] = [row["step"] for row in csv.DictReader(file)]
    return made


def kill(seed: int, number: int, folder: Path, jobs: tuple[Job, ...] = JOBS) -> Iterator[str]:
    """Kills processes; yields what went wrong for each of them, empty if nothing did.

    Args:
        seed: of all choices.
        number: of kills.
        folder: an empty one.
        jobs: taken in turn.
    """
    rng = random.Random(seed)
    undisturbed: dict[str, dict[str, object]] = {}
    turn = done = 0
    while done < number:
        job = jobs[turn % len(jobs)]
        place = folder / str(turn)
        place.mkdir()
        if job.name not in undisturbed:
            alone = folder / f"alone {len(undisturbed)}"
            alone.mkdir()
            ended = run(job.main, job.line, alone)
            assert ended.code == 0, f"{job.name}: {ended.said}"
            undisturbed[job.name] = results(job, alone / "job")
        turn += 1
        resumes = 0
        while True:
            fresh = not (place / "job" / "config.json").is_file()
            by_clock = rng.random() < 0.25
            death = Death(
                operation=0 if by_clock else rng.randint(1, MOST),
                seconds=rng.uniform(0.05, 2.0) if by_clock else 60.0,
            )
            ended = run(job.main, job.line if fresh else job.resume, place, death)
            if ended.code is None:
                done += 1
                resumes += 1
                yield ""
                continue
            finished = ended.code == 0 or (resumes and "the run has done its" in ended.said)
            if ended.trouble or not finished:
                yield f"{job.name}, after {resumes} kills: {ended.trouble or 'lost'}: {ended.said}"
            elif results(job, place / "job") != undisturbed[job.name]:
                yield f"{job.name}, after {resumes} kills: its results differ"
            break
