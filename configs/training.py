"""The options of a training run, as flags and as `config.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import tyro

from agents.learning.gating import GatingConfig
from agents.logs.tracking import TrackerName
from agents.networks.recurrent import FeedForwardConfig
from configs import choice as plugins
from configs.choice import DEFAULT_GATE, Choice, choose, component, names
from configs.errors import UsageError
from configs.presets import on_gpu, preset
from configs.stored import COUNT, MisfitError, check_count, converted, filled, section
from configs.tasks import TaskOptions, main_first, reordered, tasks_of
from envs import PROTOCOLS, find, registered
from envs.tasks import TaskName
from gridworld.options import OptionError, at_least, mention, require

DeviceName = str
EVALUATION_EPISODES = 32
EVALUATION_STEP_LIMIT = 27_000  # the time limit of Atari


@dataclass(frozen=True)
class RunOptions:
    """Options of every run; the unit of steps is the agent step, all environments counted."""

    ABSENT: ClassVar[Mapping[str, Any]] = {
        "normalize_value": False,
        "adam_beta_1": 0.9,
        "cuda_graphs": "off",
    }
    """What runs did whose `config.json` has no such option yet."""

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
    """Threads that PyTorch learns with on the CPU; 0: one for a small network, else all cores."""
    learning_rate: float = 7e-4
    """Learning rate of Adam, at the start."""
    learning_rate_end: float = 0.0
    """Learning rate of Adam at the last step; linear in between."""
    adam_beta_1: float = 0.9
    """Share that Adam keeps of its average of gradients in every update; 0 keeps none."""
    discount: float = 0.99
    """Gamma, per agent step."""
    max_gradient_norm: float = 0.5  # OpenAI Baselines, a2c and ppo2
    """Longest gradient, for the agent and for each head; longer ones are shortened; 0: no limit."""
    normalize_value: bool = True
    """Learn values in units of their own spread (PopArt), so that rewards may have any scale."""
    run_dir: str = ""
    """The run's folder; empty: runs/<env>-<aux>-<gate>-s<seed>-<time>."""
    resume: str = ""
    """Folder of a run to continue; --steps, --threads, --track and some others may be changed."""
    checkpoint_minutes: float = 3.0
    """Minutes between checkpoints; the first comes within a minute in any case."""
    log_steps: int = 0
    """Agent steps between lines of the log; 0 for a five-hundredth of the run."""
    picture_steps: int = 0
    """Agent steps between pictures of heads in TensorBoard; 0: a twentieth of the run."""
    eval_every: int = 0
    """Agent steps between evaluations of a frozen copy of the policy, which also keep the best
    policy; 0: none."""
    eval_episodes: int = EVALUATION_EPISODES
    """Whole episodes of each evaluation, in environments that training never sees."""
    eval_step_limit: int = EVALUATION_STEP_LIMIT
    """Agent steps after which an evaluation cuts an episode."""
    track: tuple[TrackerName, ...] = ()
    """Send the log to these experiment trackers as well: wandb, trackio, mlflow (each is an extra
    of the package)."""
    deterministic: bool = False
    """Refuse GPU operations that are not reproducible (the CPU always is)."""
    compile: bool = False
    """Compile the torso: pays off on a GPU, after a minute of compiling."""
    cuda_graphs: Literal["auto", "on", "off"] = "auto"
    """Launch acting and updates on a GPU as CUDA graphs; auto: where all parts of the run can."""
    pipeline: bool = False
    """Play the next trajectory while learning from the last: faster, but one update behind."""
    max_skipped: int = 100
    """Stop after so many updates in a row that were skipped for a loss that is not finite."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "num_envs", "unroll_length", "max_skipped")
        at_least(self, 0, "seed", "threads", "log_steps", "picture_steps", "eval_every")
        usual = {"eval_episodes": EVALUATION_EPISODES, "eval_step_limit": EVALUATION_STEP_LIMIT}
        at_least(self, 1, *usual)
        for name, value in usual.items():
            if not self.eval_every and getattr(self, name) != value:
                raise OptionError(
                    name,
                    f"has no effect without {mention('eval_every')}: add that, or drop this one.",
                )
        require(self, "max_gradient_norm", self.max_gradient_norm >= 0, "0 or more")
        ends_well = 0 <= self.learning_rate_end < float("inf")
        require(self, "learning_rate_end", ends_well, "0 or more and finite")
        for name in ("learning_rate", "checkpoint_minutes"):
            require(self, name, 0 < getattr(self, name) < float("inf"), "above 0 and finite")
        require(self, "seed", self.seed < 2**63, "below 2^63")
        require(self, "adam_beta_1", 0 <= self.adam_beta_1 < 1, "0 or more and below 1")
        require(self, "discount", 0 <= self.discount <= 1, "between 0 and 1")

    @property
    def log_interval(self) -> int:
        """Agent steps between lines of the log."""
        return self.log_steps or max(1, self.steps // 500)

    @property
    def picture_interval(self) -> int:
        """Agent steps between pictures, which come with the next line of the log."""
        return self.picture_steps or max(1, self.steps // 20)


PRACTICAL = (
    *("steps", "device", "threads", "run_dir", "resume"),
    *("checkpoint_minutes", "log_steps", "picture_steps", "max_skipped"),
    *("eval_every", "eval_episodes", "eval_step_limit", "track", "cuda_graphs"),
)
"""Options of a run that do not make it another one: `--resume` may change them."""


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
    tasks: TaskOptions | None = None
    """None where there is one task."""

    @property
    def task_names(self) -> tuple[TaskName, ...]:
        """The tasks as they are learnt, the main one first; none where there is only one.

        Raises:
            UsageError: `--tasks.main` names no task of the run.
        """
        if self.tasks is None:
            return ()
        return main_first(self.tasks, tasks_of(self.choice.env, self.choice.family))

    @property
    def task_sizes(self) -> tuple[int, ...]:
        """The environments of each task, in the order of `task_names`; all where there is one.

        Raises:
            OptionError: they cannot be divided so.
        """
        if not self.task_names:
            return (self.run.num_envs,)
        _, options = reordered(self.choice.env, self.env, self.task_names)
        return tuple(options.sizes(self.run.num_envs, len(self.task_names)))

    def to_json(self) -> dict[str, Any]:
        """A nested dictionary from which `from_json` makes the same config."""
        content = asdict(self)
        if self.tasks is None:
            del content["tasks"]
        return content

    @staticmethod
    def from_json(content: Any) -> "TrainConfig":
        """Reads `config.json`.

        Raises:
            UsageError: it was written by another version, or changed by hand, or one of its
                plugins cannot be loaded.
        """
        try:
            content = dict(section(content, ""))
            modules = converted(tuple[str, ...], content.get("plugins", []), "plugins")
            plugins.load_installed()
            plugins.load(modules)
            choice = filled(Choice, content["choice"], "choice")
            _check_choice(choice)
            config = _of_sections(choice, modules, content)
            check_count(content, config.to_json())
            return config
        except UsageError:
            raise
        except KeyError as error:
            fault = f"{error.args[0]} is missing"
        except MisfitError as error:
            fault = str(error)
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            fault = str(error).rstrip(".")
        raise UsageError(
            f"config.json does not fit this version ({fault}): put that right, or start a new run."
        )


RETIRED = ("log_seconds",)
"""Options of a run that earlier versions had; none changed what is learnt, so they are skipped."""


def absent(config: Any) -> dict[str, Any]:
    """What earlier versions did where an option of the config was not saved; see `ABSENT`."""
    return dict(getattr(config, "ABSENT", {}))


def _check_choice(choice: Choice) -> None:
    """Refuses components that no command line would have chosen together."""
    for slot in ("algo", "torso", "core"):
        component(slot, getattr(choice, slot))
    try:
        find(choice.env)
    except ValueError:
        return  # a game without its emulator: the config can be read, but not played
    words = ["--env", choice.env, "--algo", choice.algo, "--torso", choice.torso]
    words += ["--core", choice.core, *(["--aux", *choice.aux] if choice.aux else [])]
    words += ["--gate", choice.gate] if choice.gate is not None else []
    words += ["--protocol", choice.protocol] if choice.protocol else []
    try:
        expected, _ = choose(words)
    except UsageError as error:
        raise MisfitError(f"choice: {str(error).rstrip('.')}") from error
    for option in fields(Choice):
        wanted, found = getattr(expected, option.name), getattr(choice, option.name)
        # A run from before there were protocols names none.
        if wanted != found and not (option.name == "protocol" and not found):
            raise MisfitError(f"choice.{option.name} must be {wanted!r}, not {found!r}")


def _of_sections(
    choice: Choice, modules: tuple[str, ...], content: Mapping[str, Any]
) -> TrainConfig:
    """Makes the config from the sections of `config.json`; options that they lack are default."""
    template = defaults(choice)
    known = {each.name for each in fields(TrainConfig)} | {COUNT}
    for name in content:
        if name not in known and COUNT in content:  # tables of results add some that are no option
            raise MisfitError(f"{name} is no section here")
    heads = section(content["heads"], "heads")
    if heads.keys() != set(choice.aux):
        raise MisfitError(f"heads must be {', '.join(choice.aux) or 'empty'}")
    if choice.gate is None and content["gate"] is not None:
        raise MisfitError("gate must be null, since none was chosen")

    def made(name: str, retired: tuple[str, ...] = ()) -> Any:
        usual = getattr(template, name)
        return filled(type(usual), {**absent(usual), **section(content[name], name)}, name, retired)

    return TrainConfig(
        choice=choice,
        run=made("run", RETIRED),
        env=made("env"),
        algo=made("algo"),
        torso=made("torso"),
        heads={
            name: filled(type(head), heads[name], f"heads.{name}")
            for name, head in template.heads.items()
        },
        gate=None if choice.gate is None else made("gate"),
        judging=made("judging"),
        core=made("core") if "core" in content else template.core,
        plugins=modules,
        tasks=None if template.tasks is None else made("tasks"),
    )


def defaults(choice: Choice, *, gpu: bool = False) -> TrainConfig:
    """The config of a choice of components before any option is given.

    Args:
        choice: of components.
        gpu: whether to take the preset for a GPU, where there is one.
    """
    numbers = preset(choice.preset_family, choice.algo)
    changes = on_gpu(choice.preset_family, choice.algo) if gpu else {}
    run = {**numbers.run, **changes}
    tasks = tasks_of(choice.env, choice.family)
    for name in ("steps", "num_envs") if tasks else ():
        run[name] *= len(tasks)  # each task has as many as alone
    return TrainConfig(
        choice=choice,
        run=RunOptions(**run),
        env=_env_defaults(choice),
        algo=replace(component("algo", choice.algo), **numbers.options),
        torso=component("torso", choice.torso),
        heads={name: component("aux", name) for name in choice.aux},
        gate=None if choice.gate is None else component("gate", choice.gate),
        core=component("core", choice.core),
        tasks=TaskOptions() if tasks else None,
    )


def _env_defaults(choice: Choice) -> Any:
    if choice.protocol:
        return PROTOCOLS[choice.family][choice.protocol]
    return registered()[choice.family]


def flags(choice: Choice, *, gpu: bool = False) -> type:
    """Makes a dataclass whose fields are exactly the flags that this choice has.

    `from_flags` turns an instance of it into a config.

    Args:
        choice: of components.
        gpu: whether the defaults are those of the preset for a GPU.
    """
    default = defaults(choice, gpu=gpu)
    listed: list[tuple[str, Any, Any]] = []

    def add(name: str, kind: Any, value: Any) -> None:
        listed.append((name, kind, field(default=value)))

    chosen = {
        "env": (choice.env, plugins.ENVS),
        "algo": (choice.algo, ", ".join(names("algo"))),
        "torso": (choice.torso, ", ".join(names("torso"))),
        "core": (choice.core, ", ".join(names("core"))),
        "aux": (" ".join(choice.aux) or "none", ", ".join(("none", *names("aux")))),
    }
    if choice.protocol:
        chosen["protocol"] = (choice.protocol, ", ".join(PROTOCOLS[choice.family]))
    chosen["gate"] = (choice.gate or f"{DEFAULT_GATE}, with --aux", ", ".join(names("gate")))
    for name, (value, known) in chosen.items():
        usual = "(default: none)" if name == "aux" else None  # else what was chosen
        shown = tyro.conf.arg(name=name, help=f"Which of: {known}.", help_behavior_hint=usual)
        add(f"choose_{name}", Annotated[str, shown], value)
    text = "A module that registers components of its own; may be given several times."
    add("plugin", Annotated[str, tyro.conf.arg(metavar="MODULE", help=text)], "")
    if "distill" in choice.aux:
        text = "Short for --aux.distill.teacher; --list-teachers shows those shipped with the code."
        add("teacher", Annotated[str, tyro.conf.arg(help=text)], "")
    if choice.family == "atari":
        text = "Short for --env.backend."
        add("env_backend", Annotated[str, tyro.conf.arg(help=text)], "")
    add("run", Annotated[RunOptions, tyro.conf.arg(name="")], default.run)
    if fields(default.env):
        add("env", type(default.env), default.env)
    if default.tasks is not None:
        add("tasks", TaskOptions, default.tasks)
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
        tasks=getattr(given, "tasks", None),
    )
