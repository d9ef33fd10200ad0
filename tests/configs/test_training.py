import json
from dataclasses import asdict, replace
from itertools import islice, product
from pathlib import Path

import pytest

from agents.learning.gating import GatingConfig
from configs.choice import Choice, names
from configs.cli import parse
from configs.errors import UsageError
from configs.presets import PRESETS
from configs.stored import counted
from configs.training import RunOptions, TrainConfig, defaults
from envs import registered
from envs.atari.config import BASELINES, MACHADO

EXAMPLES = {
    "catch": "Catch",
    "gym": "CartPole-v1",
    "atari": "Breakout",
    "gridworld": "Gridworld",
    "procgen": "procgen/coinrun",
    "minigrid": "minigrid/Empty-8x8",
    "envpool": "envpool/CartPole-v1",
    "tasks": "Catch+Catch(mirrored=True)",
}
GATES = {"tasks": "cosine"}
AUX = [(), *((head,) for head in names("aux")), names("aux")]
# Sections of a config are read one by one: every component is tried once, not with all others.
COMBINATIONS = [
    *(
        Choice(EXAMPLES[family], family, algo, "mlp", (), GATES.get(family))
        for family, algo in product(registered(), names("algo"))
        if algo != "none"
    ),
    Choice("Catch", "catch", "none", "mlp", ("distill",), "sum"),
    *(Choice("Breakout", "atari", "a2c", torso, (), None) for torso in names("torso")),
    *(Choice("Catch", "catch", "a2c", "mlp", aux, "cosine") for aux in AUX if aux),
    *(Choice("Catch", "catch", "a2c", "mlp", ("distill",), gate) for gate in names("gate")),
]


def parsed(line):
    return parse(line.split())


def through_json(config):
    return TrainConfig.from_json(json.loads(json.dumps(config.to_json())))


def same(left, right):
    # As dictionaries, since some fields are left out of comparisons.
    return left == right and asdict(left) == asdict(right)


@pytest.mark.parametrize(
    "choice",
    COMBINATIONS,
    ids=lambda c: f"{c.family}-{c.algo}-{c.torso}-{'+'.join(c.aux)}-{c.gate}",
)
def test_every_combination_survives_its_json(choice):
    config = defaults(choice)
    assert same(through_json(config), config)


def test_options_survive_their_json():
    config = parsed(
        "--env Breakout --env.num-threads 3 --env.no-episodic-life --torso mlp "
        "--torso.mlp.widths 3 4 5 --aux distill --aux.distill.coefficient-end 0 "
        "--aux.distill.coefficient-steps 9 --teacher t --gate projection "
        "--gate.projection.decay 0.9 --gate.scope tensor --seed 9223372036854775807 "
        "--learning-rate 1e-30 --run-dir x"
    )
    assert same(through_json(config), config)
    assert through_json(config).torso.widths == (3, 4, 5)


def test_a_protocol_sets_the_defaults_of_the_games_and_options_may_depart_from_it():
    config = parsed("--env Breakout --protocol machado --env.noop-max 30 --env-backend ale")
    assert config.env == replace(MACHADO, noop_max=30, backend="ale")
    assert same(through_json(config), config)
    assert parsed("--env Breakout --protocol machado").env == MACHADO
    assert parsed("--env Breakout").env == parsed("--protocol baselines").env == BASELINES


def test_a_run_from_before_there_were_protocols_is_read():
    config = parsed("--env Breakout")
    content = json.loads(json.dumps(config.to_json()))
    for later in ("protocol", "core"):
        del content["choice"][later]
    for later in ("backend", "pools"):
        del content["env"][later]
    read = TrainConfig.from_json(content)
    assert read.env == config.env
    assert read.choice == replace(config.choice, protocol="")


def test_a_gymnasium_run_from_before_pictures_were_arranged_sees_what_it_saw():
    config = parsed("--env CartPole-v1")
    content = json.loads(json.dumps(config.to_json()))
    assert TrainConfig.from_json(content).env == config.env
    del content["env"]["raw_arrays"], content["env"]["kwargs"]
    assert TrainConfig.from_json(content).env == replace(config.env, raw_arrays=True)


def test_arguments_of_an_environment_survive_their_json():
    config = parsed("--env FrozenLake-v1 --env.kwargs map_name=8x8 is_slippery=false")
    assert config.env.kwargs == ("map_name=8x8", "is_slippery=false")
    assert through_json(config) == config


def test_the_defaults_are_those_of_the_preset():
    for family, numbers in PRESETS.items():
        run = defaults(Choice(EXAMPLES[family], family, numbers.algo, "mlp", (), None)).run
        for name in ("steps", "num_envs", "unroll_length", "learning_rate", "discount"):
            assert getattr(run, name) == getattr(numbers, name)


RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"

CONFIG = defaults(Choice("Catch", "catch", "a2c", "mlp", ("distill",), "projection"))


def changed(change):
    content = json.loads(json.dumps(CONFIG.to_json()))
    change(content)
    return content


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        "text",
        None,
        changed(lambda content: content.pop("run")),
        changed(lambda content: content["run"].update(novelty=1)),
        changed(lambda content: content["run"].update(steps="many")),
        changed(lambda content: content["run"].update(steps=0)),
        changed(lambda content: content["choice"].update(gate="unheard-of")),
        changed(lambda content: content["choice"].update(family="unheard-of")),
        changed(lambda content: content["choice"].update(aux=["unheard-of"])),
        changed(lambda content: content["choice"].update(protocol="machado")),  # of Catch
        changed(lambda content: content["heads"].clear()),
        changed(lambda content: content["gate"].update(decay=2.0)),
        changed(lambda content: content.update(env=None)),
    ],
    ids=lambda content: str(content)[:20],
)
def test_a_config_that_does_not_fit_is_one_sentence(content):
    with pytest.raises(UsageError, match=r"(?s)^config\.json does not fit .* start a new run\.$"):
        TrainConfig.from_json(content)


ODD = (None, True, 0, -1, 1.5, 10**12, float("nan"), float("inf"), "x", [], [None], {}, {"a": 1})


def edits(content, path=()):
    """Every value of a file replaced by odd ones, every name removed, and one added everywhere."""
    inside = content
    for name in path:
        inside = inside[name]
    for name, value in inside.items():
        yield (*path, name), "removed"
        for odd in ODD:
            yield (*path, name), odd
        if isinstance(value, dict):
            yield from edits(content, (*path, name))
    yield (*path, "novelty"), 1


def edited(content, path, value):
    changed = json.loads(json.dumps(content))
    inside = changed
    for name in path[:-1]:
        inside = inside[name]
    if value == "removed":
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return changed


def test_hundreds_of_edits_of_a_config_are_read_as_they_are_or_refused(monkeypatch):
    # Looking for installed plugins takes most of the time, hundreds of times over.
    monkeypatch.setattr("configs.choice.load_installed", lambda: None)
    written = json.loads(json.dumps(counted(CONFIG.to_json())))
    read, refusals = 0, {}
    for path, value in islice(edits(written), 0, None, 2):
        content = edited(written, path, value)
        try:
            config = TrainConfig.from_json(content)
        except UsageError as error:
            refusals[path, str(value)] = str(error)
            continue
        read += 1
        # What was read is what is in the file: nothing was filled in or turned into another.
        kept = json.loads(json.dumps(counted(config.to_json())))
        assert path in (("options",), ("plugins",)) or kept == content, path
    assert read > 20
    assert len(refusals) > 300
    for (path, _), said in refusals.items():
        assert "\n" not in said
        # Where a choice changes, other sections may fit no more.
        assert path[0] in ("choice", "options") or path[0] in said


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("run", "deterministic"), 0, "run.deterministic: expected `bool`, got `int`"),
        (("run", "threads"), 1.5, "run.threads: expected `int`, got `float`"),
        (("torso", "widths"), [64, "x"], "torso.widths[1]: expected `int`, got `str`"),
        (("run", "threads"), "removed", "run.threads is missing; "),
        (("run", "max_gradient_norm"), float("inf"), "run.max_gradient_norm must be a finite"),
        (("heads", "distill", "temperature"), -1, "heads.distill.temperature must be"),
        (("run", "num_envs"), 10**9, "run.num_envs must be at most 1,000,000"),
        (("choice", "family"), "atari", "choice.family must be 'catch', not 'atari'"),
        (("env",), 3, "env must hold names and values, not 3"),
    ],
)
def test_the_path_of_what_is_wrong_is_named(path, value, said):
    written = json.loads(json.dumps(counted(CONFIG.to_json())))
    with pytest.raises(UsageError) as refused:
        TrainConfig.from_json(edited(written, path, value))
    assert f"({said}" in str(refused.value)


def test_an_option_that_is_gone_since_is_skipped():
    content = changed(lambda content: content["run"].update(log_seconds=5.0))
    assert TrainConfig.from_json(content) == CONFIG


def test_the_configs_of_all_committed_runs_are_read():
    lines = [
        line.removeprefix("# config: ")
        for path in RESULTS.rglob("*.csv")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("# config: ")
    ]
    assert lines
    for line in lines:
        content = json.loads(line)
        assert TrainConfig.from_json(content).run.seed == content["run"]["seed"]


def test_an_option_that_is_new_since_has_its_default():
    content = changed(lambda content: content["run"].pop("threads"))
    assert TrainConfig.from_json(content).run.threads == RunOptions().threads


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("num_envs", -1),
        ("unroll_length", 0),
        ("seed", -1),
        ("threads", -1),
        ("learning_rate", 0.0),
        ("learning_rate_end", float("nan")),
        ("discount", 1.5),
        ("max_gradient_norm", float("nan")),
        ("checkpoint_minutes", -1.0),
        ("log_steps", -1),
        ("picture_steps", -1),
        ("max_skipped", 0),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*not {value}"):
        replace(RunOptions(), **{name: value})


def test_the_smallest_values_are_accepted():
    RunOptions(
        steps=1, num_envs=1, unroll_length=1, seed=0, learning_rate_end=0.0, max_gradient_norm=0.0
    )


def test_a_run_has_twenty_pictures_unless_told_otherwise():
    assert RunOptions(steps=1000).picture_interval == 50
    assert RunOptions(steps=7).picture_interval == 1
    assert RunOptions(steps=1000, picture_steps=300).picture_interval == 300


def test_weights_are_judged_at_every_first_update_at_least():
    with pytest.raises(ValueError, match=r"^every must be at least 1, not 0"):
        GatingConfig(every=0)


def test_a_config_from_before_value_normalisation_goes_on_without_it():
    config = defaults(Choice("CartPole-v1", "gym", "ppo", "mlp", (), None))
    assert config.run.normalize_value
    content = config.to_json()
    del content["run"]["normalize_value"]
    assert not TrainConfig.from_json(content).run.normalize_value


def test_a_config_from_before_later_options_goes_on_with_what_was_done_then():
    content = defaults(Choice("minigrid/Empty-8x8", "minigrid", "ppo", "mlp", (), None)).to_json()
    del content["run"]["adam_beta_1"], content["algo"]["advantage_floor"]
    old = TrainConfig.from_json(content)
    assert (old.run.adam_beta_1, old.algo.advantage_floor) == (0.9, 0.0)


@pytest.mark.parametrize(
    ("flags", "names", "sizes"),
    [
        ("--env Catch", (), (6,)),
        ("--env Catch+Gridworld", ("Catch", "Gridworld"), (3, 3)),
        ("--env Catch+Gridworld --env.share 3 1", ("Catch", "Gridworld"), (4, 2)),
        # The main task comes first, so its share is rounded down.
        (
            "--env Catch+Gridworld --env.share 3 1 --tasks.main gridworld",
            ("Gridworld", "Catch"),
            (1, 5),
        ),
    ],
)
def test_tasks_and_their_environments_are_in_the_order_in_which_they_are_learnt(
    flags, names, sizes
):
    config = parse(f"{flags} --aux none --num-envs 6".split())
    assert tuple(map(str, config.task_names)) == names
    assert config.task_sizes == sizes
