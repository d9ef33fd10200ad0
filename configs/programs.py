"""The options of `evaluate.py`, `sweep.py` and `study.py`."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from agents.gates import Gate, make
from agents.tabular import SampledConfig
from configs.numbers import check_number
from gridworld import Change, WorldConfig
from gridworld.options import in_brackets

EPISODES, NUM_ENVS = 100, 16
FILM_STEPS = 2_000
MAX_EPISODE_STEPS = 200_000
"""Atari's own limit is 27,000."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Which policies to play, how often, and where the scores go."""

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint=""),
    ]
    """A run's folder, a shipped teacher's name, or an exported policy; several are compared."""
    episodes: int = EPISODES
    """Whole episodes per RUN, divided among environments beforehand so that short ones are not
    favoured."""
    num_envs: int = NUM_ENVS
    """Environments stepped together."""
    seed: int = 1_000_001
    """Seed of environments and actions, the same for every RUN and far from those of training."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the torso; auto takes what the run was given, else bf16 if the hardware has
    it."""
    max_episode_steps: int = MAX_EPISODE_STEPS
    """Agent steps after which an episode that does not end is given up, with an error."""
    threads: int = 0
    """Threads that PyTorch computes with on the CPU; 0 chooses."""
    policy: Literal["last", "best"] = "last"
    """Which policy of a run's folder: as exported last, or the best of its evaluations
    while it was trained."""
    env: str = ""
    """Environment of another library's policy (Stable-Baselines3, CleanRL), which names none."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """File for all scores, JSON or .csv; without it they go to evaluation.json in each run's
    folder."""
    video: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Film one episode instead, as .mp4 or .gif; nothing is scored."""
    video_steps: int = FILM_STEPS
    """Longest film, in agent steps."""

    plugin: Annotated[str, tyro.conf.arg(metavar="MODULE", help_behavior_hint="")] = ""
    """Import a module that registers components, as in training; may be given several times."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("RUN is missing: give a run's folder, or a policy.")
        for name in ("episodes", "num_envs", "max_episode_steps", "video_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{_flag(name)} must be at least 1, not {getattr(self, name)}.")
        if self.seed < 0 or self.threads < 0:
            raise ValueError("--seed and --threads must be 0 or more.")
        if self.video:
            self._check_film()
        elif self.video_steps != FILM_STEPS:
            raise ValueError("--video-steps has no effect without --video: add it, or drop both.")

    def _check_film(self) -> None:
        """Refuses what has no effect on the film of one episode."""
        if len(self.runs) > 1:
            raise ValueError(f"--video films one RUN, not {len(self.runs)}: film them in turn.")
        if self.output:
            raise ValueError("--video scores nothing, so there is nothing for --output: drop one.")
        for name, default in (("episodes", EPISODES), ("num_envs", NUM_ENVS)):
            if getattr(self, name) not in (1, default):
                raise ValueError(f"--video films a single episode: drop {_flag(name)}.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


ADVANTAGE, AHEAD = WHERE = (" where advantage", " where ahead")
"""What may follow a gate in a sweep: students follow their teacher only where its actions are
estimated to be better than their own, or only as long as its return is above theirs, as with
--aux.distill.where."""


def parse_gate(text: str) -> Gate:
    """Builds the gate that a text names, with its options; `WHERE` at its end is not the gate's.

    Raises:
        ValueError: if it names none, or one that needs more than gradients.
    """
    where = next(filter(text.endswith, WHERE), "")
    name, options = read_gate(text.removesuffix(where))
    for option, value in options.items():
        check_number(f"--gates {text}: {option}", option, value)
    try:
        gate = make(name, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--gates {text}: {error}") from error
    needs = {
        "a network": gate.needs_network,
        "the values of losses": gate.needs_losses,
        "gradients of single steps": gate.sample_rows > 0,
        "gradients of slices of environments": gate.slices > 0,
    }
    wanted = next((what for what, needed in needs.items() if needed), None)
    if wanted is not None:
        raise ValueError(
            f"--gates {text} needs {wanted}, which tabular students do not have: choose another "
            "gate, or train a network with it by train.py."
        )
    return gate


def read_gate(text: str) -> tuple[str, dict[str, Any]]:
    """Reads a gate's name and its options, as in "projection(decay=0.99)".

    Raises:
        ValueError: if it cannot be read.
    """
    name, bracket, rest = text.partition("(")
    name = name.strip()
    if not bracket:
        return name, {}
    try:
        return name, in_brackets(rest)
    except ValueError as error:
        raise ValueError(
            f'--gates {text} cannot be read: write options as in "projection(decay=0.99)".'
        ) from error


Place = Literal["local", "ray", "slurm"]


def _check_place(on: Place, address: str, slurm: tuple[str, ...]) -> None:
    """Refuses options of a backend that was not chosen, and settings that are none."""
    for name, given, place in (("address", address, "ray"), ("slurm", slurm, "slurm")):
        if given and on != place:
            raise ValueError(f"{_flag(name)} has no effect without --on {place}: add it.")
    for setting in slurm:
        if "=" not in setting:
            raise ValueError(f"--slurm {setting} must be KEY=VALUE, as partition=short.")


Setting = Literal["cross", "same"]

WORLDS, FULL_WORLDS = 200, 1_000
LEARNING_RATES = {"sampled": 10.0, "exact": 0.3}
"""Of gradients that are means over steps: where main-only learning ended best, of six rates from
3 to 200 in 40 worlds.  Of those that are sums over an episode: where no gate lowered a return."""


@dataclass(frozen=True)
class SweepConfig:
    """Which worlds, teachers, gates; how long; where to write."""

    full: bool = False
    """The figure of 1,000 worlds; nothing else changes."""
    worlds: int | None = None
    """Number of worlds, each with a modified variant; none: 200."""
    settings: tuple[Setting, ...] = ("cross", "same")
    """The teacher knows the world before its rewards were changed (cross) or the student's own
    world (same)."""
    temperatures: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0)
    """Temperatures of the teachers' softmax over action values; 0 is greedy (our choice)."""
    gates: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="GATE [GATE ...]", help_behavior_hint="")
    ] = ("sum", "cosine", "cosine_unweighted", "projection")
    """Gates to compare, with options if wanted: "projection(decay=0.99)"; main-only learning is
    always included. "sum where advantage" follows a teacher only where its actions seem better,
    "sum where ahead" only as long as it earns more than its student. (default: sum cosine
    cosine_unweighted projection)"""
    updates: int = 500
    """Updates of every student."""
    seeds: int = 1
    """Students of each arm in each world."""
    seed: int = 0
    """Seed of worlds and students."""
    gradients: Literal["sampled", "exact"] = "sampled"
    """Gradients from sampled steps, or exact ones from linear solves, without noise."""
    learning_rate: float | None = None
    """Learning rate of plain gradient descent; none: 10 if sampled, 0.3 if exact."""
    teacher: Literal["exact", "q-learning"] = "exact"
    """How teachers get their action values: solved exactly, or learnt."""
    teacher_steps: int | None = None
    """Agent steps of each of the 4 agents that learn a teacher's table; none: 30,000."""
    change: Change = "redraw"
    """How the positive rewards of a world are changed."""
    points: int = 20
    """Points of every curve besides its start; denser at first."""
    world: WorldConfig = WorldConfig()
    practice: SampledConfig = SampledConfig()
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: int = 0
    """Processes on the CPU, of one thread each; 0: one per core (ray: as many as fit into the
    cluster; slurm: 100). Changes no result."""
    on: Place = "local"
    """Where students are trained: processes of this machine, Ray, or jobs of SLURM."""
    address: str = ""
    """Address of a Ray cluster, as host:6379 or auto; empty starts one on this machine."""
    slurm: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Options of sbatch, as partition=short time=60 mem=4GB; time is in minutes."""
    chunk: int = 0
    """Students that learn together; 0: 1,000 on a CPU, 40,000 on a GPU. Another number draws
    other random numbers."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder for all results; a sweep interrupted there continues. Without it: one in runs/."""
    resume: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Folder of a sweep to continue, with its options; only --workers and where students are
    trained may be given."""

    def __post_init__(self) -> None:
        if self.full and self.worlds is not None:
            raise ValueError(f"--full means --worlds {FULL_WORLDS}: drop one of the two.")
        for name in ("worlds", "updates", "seeds", "points", "teacher_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")
        for name in ("seed", "workers", "chunk"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must be 0 or more, not {getattr(self, name)}.")
        for name in ("settings", "temperatures", "gates"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"--{name} needs at least one value.")
            if len(set(values)) < len(values):
                raise ValueError(f"--{name} names {_repeated(values)} twice: drop one.")
        for temperature in self.temperatures:
            if not 0 <= temperature < math.inf:
                raise ValueError(f"--temperatures must be 0 (greedy) or more, not {temperature:g}.")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"--learning-rate must be above 0, not {self.learning_rate:g}.")
        if self.teacher == "exact" and self.teacher_steps is not None:
            raise ValueError(
                "--teacher-steps has no effect on teachers that are solved for: add --teacher "
                "q-learning, or drop it."
            )
        if self.world.max_episode_steps:
            raise ValueError(
                "--world.max-episode-steps must be 0 in a sweep: exact returns know of no limit."
            )
        for gate in self.gates:
            parse_gate(gate)
        _check_place(self.on, self.address, self.slurm)
        if self.on != "local" and self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(
                f"--device {self.device} names a GPU of one machine: use --device cuda with "
                f"--on {self.on}."
            )

    @property
    def num_worlds(self) -> int:
        """How many pairs of worlds."""
        return self.worlds or (FULL_WORLDS if self.full else WORLDS)

    @property
    def rate(self) -> float:
        """The learning rate, the default of the kind of gradients where none is set."""
        return self.learning_rate or LEARNING_RATES[self.gradients]

    @property
    def steps_per_update(self) -> int:
        """Agent steps that a student plays for one update; 1 where none is played."""
        if self.gradients == "exact":
            return 1
        return self.practice.num_envs * self.practice.unroll_length

    @property
    def log_points(self) -> tuple[int, ...]:
        """The updates after which curves have a point, 0 the first; denser where curves bend."""
        fractions = ((point / self.points) ** 2 for point in range(self.points + 1))
        return tuple(sorted({round(fraction * self.updates) for fraction in fractions}))


def _repeated(values: tuple[object, ...]) -> object:
    return next(value for value in values if values.count(value) > 1)


@dataclass(frozen=True)
class StudyOptions:
    """Where and how the runs of a study are trained; every flag of train.py may come with them."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """The study's folder; empty: runs/<name of the study file>, or runs/study-<time>."""
    resume: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Go on with the study in this folder; values given with it are added to the study."""
    seeds: int = 0
    """Runs of each combination, with seeds 1 to this number; 0: as --seed says."""
    on: Place = "local"
    """Where runs are trained: processes of this machine, Ray, or jobs of SLURM."""
    jobs: int = 0
    """Runs at a time; 0: as many as there are cores (ray: as fit into the cluster; slurm: 100)."""
    gpus: float = 0.0
    """GPUs for each run, which may be a fraction on one machine and on Ray."""
    address: str = ""
    """Address of a Ray cluster, as host:6379 or auto; empty starts one on this machine."""
    slurm: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Options of sbatch, as partition=short time=60 mem=4GB; time is in minutes."""
    retries: int = 1
    """How often a run that fails is tried again."""
    search: Literal["", "optuna"] = ""
    """Search the ranges that flags have, as --learning-rate 1e-4..1e-2:log or --unroll-length
    8..64, and choose among several values of others, for the highest return."""
    trials: int = 0
    """Combinations that a search tries, each with all seeds; with --resume: its new number."""
    prune: bool = True
    """Whether a search ends trials that are worse than the others were at the same step."""
    dry_run: bool = False
    """Print the command of every run and an estimate of the time, and train nothing."""
    report: bool = False
    """With --resume: make the report of what is there so far, and train nothing."""

    def __post_init__(self) -> None:
        for name in ("seeds", "jobs", "retries", "gpus", "trials"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{_flag(name)} must be 0 or more, not {getattr(self, name)}.")
        if self.search and self.resume:
            raise ValueError("--resume goes on with the search that the folder has: drop --search.")
        if self.search and not self.trials:
            raise ValueError("--search needs the number of its trials: add --trials 30, say.")
        if self.trials and not (self.search or self.resume):
            raise ValueError("--trials has no effect without --search optuna: add it.")
        if not (self.prune or self.search):
            cure = "drop it, since a search goes on as it began" if self.resume else "add it"
            raise ValueError(f"--no-prune has no effect without --search optuna: {cure}.")
        if self.resume and self.output:
            raise ValueError("--resume names the study's folder already: drop --output.")
        if self.report and not self.resume:
            raise ValueError("--report needs the folder of a study: add --resume FOLDER.")
        _check_place(self.on, self.address, self.slurm)
