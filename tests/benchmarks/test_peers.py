import csv

import pytest

from benchmarks import peers
from benchmarks.cleanrl import PPO_ENVPOOL
from benchmarks.measure import Measurement
from benchmarks.peers import (
    DOCUMENTED,
    EQUAL,
    PEER,
    PRECISIONS,
    Options,
    Setting,
    Size,
    fastest,
    main,
    our_flags,
    peer_flags,
    report,
    settings,
    size_of,
)
from configs.cli import parse


@pytest.fixture
def clone(tmp_path):
    """A folder with a file that has all that the port looks for."""
    path = tmp_path / "clone" / PPO_ENVPOOL.path
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(snippet for snippet, _ in PPO_ENVPOOL.replacements), "utf-8")
    return tmp_path / "clone"


def options(**given):
    return Options(**{"cleanrl": "clone", "env": "Catch", "device": "cpu"} | given)


def runs(*speeds):
    return [Measurement(speed, 10 * speed) for speed in speeds]


def table(lines):
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_a_size_is_environments_times_steps():
    assert size_of("64x32") == Size(num_envs=64, unroll_length=32)
    assert str(size_of("8x128")) == "8x128"
    assert size_of("3x4").steps == 12


@pytest.mark.parametrize("text", ["64", "x32", "64x", "64x-2", "axb"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is not a size: give environments x steps"):
        size_of(text)


def test_all_arms_take_turns_and_the_documented_command_keeps_its_own_size():
    found = settings(options(sizes=("8x4", "4x5"), threads=(1, 2), env="Breakout"))
    assert [each.threads for each in found] == [1] * 7 + [2] * 7
    assert [(each.arm, str(each.size)) for each in found[:7]] == [
        *((PEER, "8x4"), (PEER, "4x5")),
        *(("ppo, fp32", "8x4"), ("ppo, fp32", "4x5")),
        *(("ppo, auto", "8x4"), ("ppo, auto", "4x5")),
        (DOCUMENTED, "32x8"),
    ]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"arms": ("ppo, fp32",)}, "leaves out CleanRL"),
        ({"arms": (PEER, "ppo")}, "'ppo' is unknown"),
        ({"threads": (0, 1)}, "at least 1"),
        ({"rounds": 0}, "at least 1"),
        ({"warm_up_updates": 0}, "at least 1"),
        ({"sizes": ("6x4",)}, "must be a multiple of 4"),
        # Two batches of warm-up and one that counts: 3 x 8 x 100.
        ({"sizes": ("8x100",), "steps": 2399}, "too few for 8x100: give 2400 or more"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        settings(options(**given))


def test_both_sides_get_the_same_settings():
    given = peer_flags(options(steps=960), Size(8, 4), seed=3)
    theirs = {
        flag.removeprefix("--"): value for flag, value in zip(given[::2], given[1::2], strict=False)
    }
    config = parse(our_flags(options(), Setting("ppo, fp32", Size(8, 4), 2)))
    run, ppo = config.run, config.algo
    assert config.choice.algo == "ppo"
    assert {name: float(theirs[name]) for name, _, _ in EQUAL} == {
        "learning-rate": run.learning_rate,
        "gamma": run.discount,
        "gae-lambda": ppo.trace,
        "num-minibatches": ppo.minibatches,
        "update-epochs": ppo.epochs,
        "clip-coef": ppo.clip,
        "ent-coef": ppo.entropy_coefficient,
        "vf-coef": ppo.value_coefficient,
        "max-grad-norm": run.max_gradient_norm,
    }
    # What CleanRL does unless told otherwise, and we have no flag for on its side.
    assert (ppo.clip_value, ppo.normalize_advantage, ppo.max_kl, ppo.clip_end) == (
        *(True, True),
        *(None, None),
    )
    assert run.learning_rate_end == 0
    assert (run.num_envs, run.unroll_length) == (8, 4)
    assert (theirs["num-envs"], theirs["num-steps"]) == ("8", "4")
    assert (theirs["env-id"], theirs["seed"]) == ("Catch-v5", "3")
    assert theirs["total-timesteps"] == "960"
    assert given[-1] == "--no-cuda"
    assert (run.threads, run.precision) == (2, "fp32")


def test_the_documented_command_is_the_documented_one():
    asked = options(env="Breakout")
    (setting,) = [each for each in settings(asked) if each.arm == DOCUMENTED and each.threads == 1]
    config = parse(our_flags(asked, setting))
    documented = "--env Breakout --aux distill --gate cosine"
    assert config.choice == parse(documented.split()).choice
    assert Size(config.run.num_envs, config.run.unroll_length) == setting.size


def test_of_each_arm_and_size_the_fastest_number_of_threads_is_kept():
    small, large = Size(8, 128), Size(64, 32)
    results = {
        Setting(PEER, small, 1): runs(10.0, 90.0, 20.0),
        Setting(PEER, large, 1): runs(40.0),
        Setting(PEER, small, 2): runs(30.0, 30.0, 5.0),
        Setting(PEER, large, 2): runs(39.0),
    }
    # By the median: 20 and 30.
    assert fastest(results) == [Setting(PEER, small, 2), Setting(PEER, large, 1)]


def test_arms_are_compared_with_cleanrl_at_the_same_size_and_the_documented_with_its_fastest():
    small, large, own = Size(8, 128), Size(64, 32), Size(32, 8)
    results = {
        Setting(PEER, small, 1): runs(100.0, 120.0, 110.0),
        Setting(PEER, large, 1): runs(200.0),
        Setting("ppo, fp32", small, 1): runs(220.0),
        Setting("ppo, fp32", large, 1): runs(300.0),
        Setting(DOCUMENTED, own, 1): runs(500.0),
        Setting("ppo, fp32", small, 2): runs(165.0),
    }
    rows = table(report(options(env="Breakout"), results))
    assert [row["ratio"] for row in rows] == ["1.00", "1.00", "2.00", "1.50", "2.50"]
    first, third = rows[0], rows[2]
    assert (first["arm"], first["size"], first["precision"]) == (PEER, "8x128", "fp32")
    assert (first["runs"], first["peak_mebibytes"]) == ("100 120 110", "1200")
    assert (third["threads"], third["steps_per_second"]) == ("1", "220")
    assert third["other_threads"] == "2: 165"
    assert first["other_threads"] == ""


@pytest.fixture
def recorded(monkeypatch):
    """The processes that are started, each of which would have made 100 steps per second."""
    started = []

    def measure(command, path, warm_up):
        started.append((PEER, command, path, warm_up))
        return Measurement(100.0, 1.0)

    def train_run(flags, folder, steps, warm_up):
        started.append(("train.py", flags, folder, warm_up))
        return Measurement(150.0, 1.0)

    monkeypatch.setattr(peers, "measure", measure)
    monkeypatch.setattr(peers, "train_run", train_run)
    return started


def test_peer_and_arm_alternate_round_by_round_with_the_same_seeds(
    recorded, clone, tmp_path, capsys
):
    output = tmp_path / "peers.csv"
    arguments = f"--cleanrl {clone} --env Catch --device cpu --sizes 8x4 --threads 1 --rounds 2"
    arms = ["--arms", PEER, "ppo, fp32", "--steps", "96", "--output", str(output)]
    assert main([*arguments.split(), *arms]) == 0
    assert [who for who, *_ in recorded] == [PEER, "train.py"] * 2
    # Two batches of 8 x 4 steps do not count.
    assert {warm_up for *_, warm_up in recorded} == {64}
    for index, (_, flags, path, _) in enumerate(recorded):
        assert flags[flags.index("--seed") + 1] == str(index // 2 + 1)
        assert path.name == ("updates.csv" if index % 2 == 0 else f"{index // 2}-1")
    command = recorded[0][1]
    assert command[:4] == ["-m", "benchmarks.cleanrl", "--cleanrl", str(clone)]
    assert command.index("--threads") < command.index("--") < command.index("--seed")
    lines = output.read_text("utf-8").splitlines()
    assert lines[4] == "# peer: CleanRL at unknown"
    assert [row["ratio"] for row in table(lines)] == ["1.00", "1.50"]
    assert "CleanRL, 8x4, threads 1: 100 steps/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("--sizes 64", "'64' is not a size"),
        ("--env Ctch", "--env Ctch"),
        ("--cleanrl nowhere", "clone CleanRL"),
    ],
)
def test_mistakes_are_told_before_the_first_run(recorded, clone, given, complaint, capsys):
    arguments = ["--device", "cpu", *given.split()]
    if "--cleanrl" not in given:
        arguments += ["--cleanrl", str(clone)]
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err
    assert recorded == []


def test_every_arm_has_its_precision():
    assert set(PRECISIONS) == {PEER, "ppo, fp32", "ppo, auto", DOCUMENTED}
