"""Trained policies with the environments that they were trained in, and where scores go."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from agents.networks.actor_critic import ActorCritic
from agents.runtime.checkpoint import is_device, writable
from agents.teachers import BEST_FILE, NONSENSE, POLICY_FILE, PolicyCard, load_policy
from configs import choice as plugins
from configs.errors import UsageError
from configs.programs import EvaluateOptions
from configs.training import absent
from envs import HELD_OUT, VecEnv, find, registered
from experiments.training.foreign import is_foreign, load_foreign
from experiments.training.hardware import Hardware
from experiments.training.run_folder import CONFIG, read_config
from experiments.training.session import label_of, labels, of_task
from experiments.training.teachers import locate_policy

EVALUATION, BEST_EVALUATION = "evaluation.json", "evaluation-best.json"


def destination(run: str, options: EvaluateOptions) -> Path | None:
    """The file for a run's scores: `--output`, or one in the run's folder.

    The folder of a shipped teacher gets none (None), because its card has its scores.
    """
    if options.output:
        return Path(options.output)
    name, path = BEST_EVALUATION if options.policy == "best" else EVALUATION, Path(run)
    if (path / CONFIG).is_file():
        return path / name
    if path.suffix and (path.parent / CONFIG).is_file():  # of one of several tasks, or its best
        label = _label(path)
        return path.parent / of_task(name, label) if label else None
    return None


def scores_beside(policy: Path) -> Path:
    """The file in a policy's folder that its scores are written to.

    `evaluation.json` of `policy.safetensors`, `evaluation-best.json` of `best.safetensors`, and
    `evaluation-NAME.json` of the policy of another task.
    """
    return policy.parent / of_task(EVALUATION, _label(policy))


def _label(policy: Path) -> str:
    """What tells a policy's scores from those of the main one in its folder; empty for that."""
    label = label_of(POLICY_FILE, policy.name)
    return policy.stem if label is None else label


def policies_of(run: str) -> list[str]:
    """A run's folder, and the files of its further tasks' policies where it has several tasks.

    Args:
        run: as typed on the command line.

    Raises:
        UsageError: the policy of a task is missing, whose scores would be missed.
    """
    folder = Path(run)
    if not (folder / CONFIG).is_file():
        return [run]
    config = read_config(folder)
    files = []
    for label in labels(config)[1:]:
        files.append(folder / of_task(POLICY_FILE, label))
        if not files[-1].exists() and (folder / POLICY_FILE).exists():
            raise UsageError(
                f"{run} lacks {files[-1].name}, the policy of its task {label}: put it back, or "
                f"play {folder / POLICY_FILE} alone."
            )
    return [run, *map(str, files)]


def check_writable(path: Path, cure: str) -> None:
    """Refuses a file that cannot be written; called before hours of play, not after.

    Creates a temporary file in the same folder to find out.

    Args:
        path: of the file.
        cure: the option that chooses another file.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder: choose a file by {cure}.")
        place = writable(path)
        if not is_device(place):
            TemporaryFile(dir=place.parent).close()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror or error}): choose another file by {cure}."
        ) from error


@dataclass(frozen=True)
class Player:
    """A policy with its card."""

    run: str
    """As typed on the command line."""
    agent: ActorCritic
    card: PolicyCard

    def build(self, num_envs: int, seed: int, hardware: Hardware, *, render: bool) -> VecEnv:
        """Builds the environment that the policy was trained in, or its held-out worlds.

        Options that do not change the game, such as threads, are chosen anew.

        Args:
            num_envs: environments stepped together.
            seed: of the environments.
            hardware: what they compute on.
            render: whether pictures will be asked for.

        Raises:
            ValueError: the environment cannot be built; says what the policy was trained with.
        """
        try:
            name, family = find(self.card.env)
        except ValueError as error:
            needs = " ".join(f"--plugin {module}" for module in self.card.plugins)
            raise ValueError(f"{error} It was trained with {needs}." if needs else error) from error
        usual: Any = registered()[family]
        chosen_anew = {field.name for field in fields(usual) if not field.compare}
        saved = absent(usual) | dict(self.card.env_options)
        options = {k: v for k, v in saved.items() if k not in chosen_anew}
        config: Any = replace(usual, **options)
        if family in HELD_OUT:
            config = HELD_OUT[family](config)
        env: VecEnv = config.build(name, num_envs, seed, hardware.device, render=render)
        return env


def load_player(
    run: str, hardware: Hardware, *, render: bool, policy: str = "last", env: str = ""
) -> Player:
    """Loads a policy, and builds its environment once to check that the two still fit.

    Args:
        run: a run's folder, a shipped teacher's name or folder, or an exported policy.
        hardware: what to compute on.
        render: whether pictures will be asked for.
        policy: best for the one that did best in the evaluations of a run's folder.
        env: the environment of another library's policy, whose file does not name it.

    Raises:
        UsageError: there is no such policy, or its environment cannot be built.
    """
    path = locate_policy(run)
    if policy == "best":
        path = Path(run) / BEST_FILE
        if Path(run).is_file():  # of one of several tasks
            label = label_of(POLICY_FILE, Path(run).name)
            path = Path(run) if label is None else Path(run).with_name(of_task(BEST_FILE, label))
        if not path.is_file():
            raise UsageError(
                f"--policy best needs {path}, which is not there: name the folder of a run that "
                "was trained with --eval-every, or drop it."
            )
    if is_foreign(path) != bool(env):
        raise UsageError(
            f"--env is for policies of other libraries, and {run} names its own: drop "
            "it, or evaluate policies of other libraries in a command of their own."
            if env
            else f"{run} does not name its environment: add --env."
        )
    load_plugins_of(run)
    try:
        if env:
            return _foreign_player(run, path, env, hardware)
        player = Player(run, *load_policy(path, hardware.device, hardware.precision))
        played = player.build(1, 0, hardware, render=render)
        played.close()
        _check(player.card, played)
    except NONSENSE as error:
        raise UsageError(f"{run} cannot be played: {str(error).rstrip('.')}.") from error
    return player


def _foreign_player(run: str, path: Path, name: str, hardware: Hardware) -> Player:
    """A policy of another library, in an environment with its usual options."""
    known, family = find(name)
    config: Any = registered()[family]
    env: VecEnv = config.build(known, 1, 0, hardware.device)
    env.close()
    agent, card, said = load_foreign(
        path, env.spec, hardware.device, hardware.precision, asdict(config)
    )
    print(said, flush=True)
    return Player(run, agent, card)


def as_trained(run: str, options: EvaluateOptions, hardware: Hardware) -> Hardware:
    """The hardware in the precision that a run was given, unless the user asks for one.

    Args:
        run: a run's folder, or a policy in it; another policy says nothing of its precision.
        options: of the evaluation.
        hardware: that was chosen.

    Raises:
        UsageError: the run's config cannot be read.
    """
    path = Path(run)
    folder = path if path.is_dir() else path.parent
    labels = (label_of(file, path.name) for file in (POLICY_FILE, BEST_FILE))
    of_run = path.is_dir() or any(label is not None for label in labels)
    if options.precision != "auto" or not of_run or not (folder / CONFIG).is_file():
        return hardware
    given = read_config(folder).run.precision
    if given == "auto" or given == hardware.precision:
        return hardware
    print(f"Playing {run} in {given}, as it was trained.", flush=True)
    return replace(hardware, precision=given)


def load_plugins_of(run: str) -> None:
    """Loads the plugins that a run was trained with; an exported policy only names them.

    Raises:
        UsageError: one cannot be loaded.
    """
    path = Path(run) / CONFIG
    if path.is_file():
        plugins.load(read_config(Path(run)).plugins)


def _check(card: PolicyCard, env: VecEnv) -> None:
    """Refuses an environment that has changed since the policy was trained."""
    spec = env.spec
    shown = (
        *(str(spec.observation_dtype), spec.observation_shape),
        *(spec.num_symbols, spec.action_set),
    )
    learnt = (
        *(card.observation_dtype, card.observation_shape),
        *(card.num_symbols, card.action_set),
    )
    if shown != learnt:
        raise ValueError(f"{card.env} has {shown} here, but had {learnt} when it was trained")
