"""The options of a training run, as flags and as `config.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from typing import Annotated, Any, Literal

import tyro

from agents.learning.gating import GatingConfig
from agents.logs.tracking import TrackerName
from agents.networks.recurrent import FeedForwardConfig
from configs import choice as plugins
from configs.choice import DEFAULT_GATE, Choice, component, names
from configs.errors import UsageError
from configs.presets import preset
from envs import PROTOCOLS, registered
from gridworld.options import at_least, require

DeviceName = str


@dataclass(frozen=True)
class RunOptions:
    """Options of every run; the unit of steps is the agent step, all environments counted."""

    steps: int = 10_000_000
    """Agent steps to train for (Atari: 4 frames each)."""
    num_envs: int = 32
    """Environments stepped together."""
    unroll_length: int = 8
    """Agent steps of each environment between two updates."""
    seed: int = 1
    """Runs of the same seed share environment seeds and initial weights."""
    device: DeviceName = "auto"
    """auto, cpu, cuda or cuda:N; auto takes the GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the torso; auto takes bf16 if the hardware has it."""
    threads: int = 0
    """Threads that PyTorch learns with on the CPU; 0 for all cores (1 if other runs need them)."""
    learning_rate: float = 7e-4
    """Learning rate of Adam, at the start."""
    learning_rate_end: float = 0.0
    """Learning rate of Adam at the last step; linear in between."""
    discount: float = 0.99
    """Gamma, per agent step."""
    max_gradient_norm: float = 0.5  # OpenAI Baselines, a2c and ppo2
    """Longest gradient, for the agent and for each head; longer ones are shortened; 0: no limit."""
    normalize_value: bool = False
    """Learn values in units of their own spread (PopArt), so that rewards may have any scale."""
    run_dir: str = ""
    """The run's folder; empty: runs/<env>-<aux>-<gate>-s<seed>-<time>."""
    resume: str = ""
    """Folder of a run to continue; then only --steps, --device and --run-dir may be given."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints; the first comes within a minute in any case."""
    log_steps: int = 0
    """Agent steps between lines of the log; 0 for a five-hundredth of the run."""
    picture_steps: int = 0
    """Agent steps between pictures of heads in TensorBoard; 0: a twentieth of the run."""
    track: tuple[TrackerName, ...] = ()
    """Send the log to these experiment trackers as well: wandb, trackio, mlflow (each is an extra
    of the package)."""
    deterministic: bool = False
    """Refuse GPU operations that are not reproducible (the CPU always is)."""
    compile: bool = False
    """Compile the torso: pays off on a GPU, after a minute of compiling."""
    pipeline: bool = False
    """Play the next trajectory while learning from the last: faster, but one update behind."""
    max_skipped: int = 100
    """Stop after so many updates in a row that were skipped for a loss that is not finite."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "num_envs", "unroll_length", "max_skipped")
        at_least(self, 0, "seed", "threads", "log_steps", "picture_steps")
        require(self, "max_gradient_norm", self.max_gradient_norm >= 0, "0 or more")
        ends_well = 0 <= self.learning_rate_end < float("inf")
        require(self, "learning_rate_end", ends_well, "0 or more and finite")
        for name in ("learning_rate", "checkpoint_minutes"):
            require(self, name, 0 < getattr(self, name) < float("inf"), "above 0 and finite")
        require(self, "seed", self.seed < 2**63, "below 2^63")
        require(self, "discount", 0 <= self.discount <= 1, "between 0 and 1")

    @property
    def log_interval(self) -> int:
        """Agent steps between lines of the log."""
        return self.log_steps or max(1, self.steps // 500)

    @property
    def picture_interval(self) -> int:
        """Agent steps between pictures, which come with the next line of the log."""
        return self.picture_steps or max(1, self.steps // 20)


@dataclass(frozen=True)
class TrainConfig:
    """All that a run depends on."""

    choice: Choice
    run: RunOptions
    env: Any
    """The chosen family's config; so with the following."""
    algo: Any
    torso: Any
    heads: Mapping[str, Any]
    gate: Any
    judging: GatingConfig = field(default_factory=GatingConfig)
    core: Any = field(default_factory=FeedForwardConfig)
    plugins: tuple[str, ...] = ()
    """Modules, loaded beforehand, that registered components."""

    def to_json(self) -> dict[str, Any]:
        """A nested dictionary from which `from_json` makes the same config."""
        return asdict(self)

    @staticmethod
    def from_json(content: Any) -> "TrainConfig":
        """Reads `config.json`.

        Raises:
            UsageError: it was written by another version, or changed by hand, or one of its
                plugins cannot be loaded.
        """
        try:
            modules = tuple(content.get("plugins", ()))
            plugins.load_installed()
            plugins.load(modules)
            chosen = dict(content["choice"])
            choice = Choice(**{**chosen, "aux": tuple(chosen["aux"])})
            template = defaults(choice)
            return TrainConfig(
                choice=choice,
                run=_filled(template.run, content["run"], RETIRED),
                env=_filled(template.env, content["env"]),
                algo=_filled(template.algo, content["algo"]),
                torso=_filled(template.torso, content["torso"]),
                heads={
                    name: _filled(head, content["heads"][name])
                    for name, head in template.heads.items()
                },
                gate=None if choice.gate is None else _filled(template.gate, content["gate"]),
                judging=_filled(template.judging, content["judging"]),
                core=_filled(template.core, content.get("core", {})),
                plugins=modules,
            )
        except UsageError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(
                f"config.json does not fit this version ({error}): start a new run."
            ) from error


RETIRED = ("log_seconds",)
"""Options of a run that earlier versions had; none changed what is learnt, so they are skipped."""


def _filled(template: Any, content: Any, retired: tuple[str, ...] = ()) -> Any:
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content.items()
        if name not in retired
    }
    return type(template)(**values)


def defaults(choice: Choice) -> TrainConfig:
    """The config of a choice of components before any option is given."""
    numbers = preset(choice.family, choice.algo)
    return TrainConfig(
        choice=choice,
        run=RunOptions(**numbers.run),
        env=_env_defaults(choice),
        algo=component("algo", choice.algo),
        torso=component("torso", choice.torso),
        heads={name: component("aux", name) for name in choice.aux},
        gate=None if choice.gate is None else component("gate", choice.gate),
        core=component("core", choice.core),
    )


def _env_defaults(choice: Choice) -> Any:
    if choice.protocol:
        return PROTOCOLS[choice.family][choice.protocol]
    return registered()[choice.family]


def flags(choice: Choice) -> type:
    """Makes a dataclass whose fields are exactly the flags that this choice has.

    `from_flags` turns an instance of it into a config.
    """
    default = defaults(choice)
    listed: list[tuple[str, Any, Any]] = []

    def add(name: str, kind: Any, value: Any) -> None:
        listed.append((name, kind, field(default=value)))

    chosen = {
        "env": (choice.env, "any Atari game, Gridworld, Catch, any Gymnasium id"),
        "algo": (choice.algo, ", ".join(names("algo"))),
        "torso": (choice.torso, ", ".join(names("torso"))),
        "core": (choice.core, ", ".join(names("core"))),
        "aux": (" ".join(choice.aux) or "none", ", ".join(("none", *names("aux")))),
    }
    if choice.protocol:
        chosen["protocol"] = (choice.protocol, ", ".join(PROTOCOLS[choice.family]))
    chosen["gate"] = (choice.gate or f"{DEFAULT_GATE}, with --aux", ", ".join(names("gate")))
    for name, (value, known) in chosen.items():
        text = f"Which of: {known}."
        add(f"choose_{name}", Annotated[str, tyro.conf.arg(name=name, help=text)], value)
    text = "A module that registers components of its own; may be given several times."
    add("plugin", Annotated[str, tyro.conf.arg(metavar="MODULE", help=text)], "")
    if "distill" in choice.aux:
        text = "Short for --aux.distill.teacher."
        add("teacher", Annotated[str, tyro.conf.arg(help=text)], "")
    if choice.family == "atari":
        text = "Short for --env.backend."
        add("env_backend", Annotated[str, tyro.conf.arg(help=text)], "")
    add("run", Annotated[RunOptions, tyro.conf.arg(name="")], default.run)
    if fields(default.env):
        add("env", type(default.env), default.env)
    for slot in ("algo", "torso", "core"):
        add(slot, *_named(slot, {getattr(choice, slot): getattr(default, slot)}))
    if choice.aux:
        add("aux", *_named("aux", default.heads))
    if choice.gate is not None:
        add("judging", Annotated[GatingConfig, tyro.conf.arg(name="gate")], default.judging)
        add("gate", *_named("gate", {choice.gate: default.gate}))
    return make_dataclass("Flags", listed, frozen=True)


def _named(slot: str, components: Mapping[str, Any]) -> tuple[Any, Any]:
    """A dataclass with one field per component that has options, and its default instance."""
    listed = [
        (name, type(config), field(default=config))
        for name, config in components.items()
        if fields(config)
    ]
    made = make_dataclass(slot.capitalize(), listed, frozen=True)
    return made, made()


def from_flags(choice: Choice, given: Any, modules: tuple[str, ...] = ()) -> TrainConfig:
    """The config that a parsed instance of `flags(choice)` stands for.

    Args:
        choice: of components.
        given: the parsed instance.
        modules: the plugins that were loaded.
    """
    default = defaults(choice)
    return TrainConfig(
        choice=choice,
        run=given.run,
        env=getattr(given, "env", default.env),
        algo=getattr(given.algo, choice.algo, default.algo),
        torso=getattr(given.torso, choice.torso, default.torso),
        heads={name: getattr(given.aux, name, head) for name, head in default.heads.items()},
        gate=None if choice.gate is None else getattr(given.gate, choice.gate, default.gate),
        judging=default.judging if choice.gate is None else given.judging,
        core=getattr(given.core, choice.core, default.core),
        plugins=modules,
    )
