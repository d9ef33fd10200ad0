"""Damages the files of a run that is then resumed: its checkpoints must rule, or one sentence."""

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agents.teachers import POLICY_FILE
from experiments.training.command import main as train
from experiments.training.run_folder import CHECKPOINTS
from tests.faults.harness import run
from tests.faults.kills import SMALL

FOREIGN = "notes.txt"
"""A file of the user's in the run's folder."""
ONWARD = "--resume job --steps 84"


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 20))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size + 1))


def _append(path: Path, rng: random.Random) -> None:
    with path.open("ab") as file:
        file.write(rng.choice((rng.randbytes(50), b'"', b"7" * 200_000 + b"\n", b"\0" * 9, b"\n")))


def _blank(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])


def _repeat(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    path.write_bytes(content[:end] + content[start:])


def _remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def _folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _dangling(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _linked(path: Path, rng: random.Random) -> None:
    moved = path.with_name(f"moved-{path.name}")
    path.rename(moved)
    path.symlink_to(moved.name)


Damage = Callable[[Path, random.Random], None]
DAMAGES: tuple[Damage, ...] = (
    *(_flip, _flip, _flip, _cut, _cut, _append, _blank, _repeat),
    *(_remove, _folder, _pipe, _dangling, _linked),
)


EARLIER = ("is damaged (", "): continuing from step ")
"""What a run says that goes on from an earlier checkpoint than its last."""
RESUMED = re.compile(r"Resumed at step (\d+), exactly")
LAST = 60
"""The step of the last checkpoint."""


@dataclass(frozen=True)
class Promise:
    """What a run must become that goes on from one of its checkpoints.

    It is prolonged, and its schedules with it, so its policy depends on the checkpoint: that of
    an undisturbed run whose last checkpoint was this one.
    """

    template: Path
    """Holds the run, in `job`."""
    folder: Path
    """Where the undisturbed runs are made."""
    policies: dict[int, bytes] = field(default_factory=dict)

    def policy(self, step: int) -> bytes:
        """The policy of a run that nobody disturbed and that went on from `step`."""
        if step not in self.policies:
            place = self.folder / str(step)
            shutil.copytree(self.template, place)
            for path in (place / "job" / CHECKPOINTS).iterdir():
                if int(path.stem.removeprefix("step-")) > step:
                    path.unlink()
            assert run(train, ONWARD, place).code == 0
            self.policies[step] = (place / "job" / POLICY_FILE).read_bytes()
        return self.policies[step]

    def broken(self, said: str, job: Path, removed: bool) -> str:
        """What was promised and not kept by a run that ended well, or nothing.

        Args:
            said: by the run.
            job: its folder.
            removed: whether its last checkpoint was removed, which no program can know.
        """
        resumed = RESUMED.search(said)
        if resumed is None:
            return "did not go on"
        step = int(resumed[1])
        if step < LAST and not removed and not all(part in said for part in EARLIER):
            return "went back without a word"
        policy = job / POLICY_FILE
        same = policy.is_file() and policy.read_bytes() == self.policy(step)
        return "" if same else "a silent ruin"


def damage(seed: int, number: int, folder: Path) -> Iterator[str]:
    """Damages files; yields what went wrong for each, empty if nothing did.

    Args:
        seed: of all choices.
        number: of damaged runs.
        folder: an empty one.
    """
    rng = random.Random(seed)
    template = folder / "template"
    template.mkdir()
    assert run(train, f"{SMALL} --run-dir job", template).code == 0
    (template / "job" / FOREIGN).write_text("theirs")
    promise = Promise(template, folder)
    for _ in range(number):
        place = folder / "place"
        shutil.copytree(template, place)
        job = place / "job"
        files = sorted(path for path in job.rglob("*") if path.is_file() and path.name != FOREIGN)
        struck = rng.sample(files, rng.choice((1, 1, 1, 2, len(files))))
        kind = rng.choice(DAMAGES)
        for path in struck:
            kind(path, rng)
        ended = run(train, ONWARD, place)
        wrong = ended.trouble
        if not wrong and ended.code == 0:
            removed = kind is _remove and any(path.match(f"step-*{LAST}.*") for path in struck)
            wrong = promise.broken(ended.said, job, removed)
        elif not wrong and len(ended.said.strip().splitlines()) < 1:
            wrong = f"exit code {ended.code} without a word"
        if not wrong and (job / FOREIGN).read_text() != "theirs":
            wrong = "a foreign file was touched"
        names = ", ".join(str(path.relative_to(job)) for path in struck)
        yield f"{kind.__name__} of {names}: {wrong}: {ended.said[-2000:]}" if wrong else ""
        shutil.rmtree(place)
