"""What happens around a program's work: signals, pipes, encodings, other people's code."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

from auxgate import program
from experiments.evaluation.command import main as evaluate
from experiments.sweep.command import main as sweep
from experiments.training import trainer
from experiments.training.command import main
from experiments.training.trainer import DIVERGED, DONE, MISTAKEN

ROOT = Path(__file__).resolve().parent.parent
SHORT = (
    "--num-envs 3 --unroll-length 4 --steps 120 --device cpu --threads 1 --precision fp32 "
    "--log-steps 12 --run-dir mine"
)
CATCH = f"--env Catch {SHORT}"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Odd(gymnasium.Env):
    """A task that does what a test asks for at its twentieth step, and ends only if told to."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault="", ends=True):
        self.fault, self.ends, self.steps = fault, ends, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        value = np.zeros(2, np.float32)
        if self.steps > 20:
            match self.fault:
                case "connection":
                    raise ConnectionResetError("reset by peer")
                case "bug":
                    raise KeyError("inventory")
                case "exit":
                    raise SystemExit(3)
                case "nan":
                    value[0] = np.nan
                case "memory":
                    raise MemoryError
        return value, 0.0, self.ends and self.steps % 7 == 0, False, {}


@pytest.fixture
def odd(monkeypatch):
    """Registers the odd task with a fault."""

    def register(**options):
        gymnasium.register("Odd-v0", lambda **given: Odd(**options, **given))

    yield register
    gymnasium.registry.pop("Odd-v0", None)


def started(line, module="train.py", **environment):
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, str(ROOT / module), *line.split()],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# --- other people's code ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("connection", "ConnectionResetError: reset by peer"),
        ("bug", "KeyError: 'inventory'"),
        ("exit", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("line", ["", "--pipeline"])
def test_an_error_of_the_environment_is_named_as_its_own_and_shown(fault, what, line, odd, capsys):
    odd(fault=fault)
    assert main(f"--env Odd-v0 --algo a2c {SHORT} {line}".split()) == 1
    first, *trace = capsys.readouterr().err.splitlines()
    assert first.startswith(f"train.py: the environment Odd-v0 failed ({what}); its traceback fol")
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == what


def test_an_error_of_the_environment_in_evaluation_is_no_full_disk(odd, capsys):
    odd()
    assert main(f"--env Odd-v0 --algo a2c {SHORT}".split()) == DONE
    gymnasium.registry.pop("Odd-v0")
    odd(fault="connection")
    assert evaluate(["mine", "--episodes", "40", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("evaluate.py: the environment Odd-v0 failed (ConnectionResetError")
    assert "another one by --output" not in said


def test_an_episode_without_end_is_given_up_with_the_cure(odd, capsys, monkeypatch):
    odd(ends=False)
    assert main(f"--env Odd-v0 --algo a2c {SHORT}".split()) == DONE
    monkeypatch.setattr("experiments.evaluation.command.PROGRESS_SECONDS", 0.0)
    line = "mine --episodes 2 --device cpu --max-episode-steps 50"
    assert evaluate(line.split()) == MISTAKEN
    said = capsys.readouterr()
    assert said.err == (
        "evaluate.py: an episode of Odd-v0 has not ended after 50 agent steps: give more "
        "--max-episode-steps, or train with a limit of the environment (--env.max-episode-steps).\n"
    )
    assert "0 of 2 episodes, 50 steps." in said.out  # 25 of each environment


def test_observations_that_are_not_finite_are_the_environments_and_no_success(odd, capsys):
    odd(fault="nan")
    assert main(f"--env Odd-v0 --algo a2c {SHORT} --max-skipped 3".split()) == DIVERGED
    said = capsys.readouterr().err
    assert "skipped, because observations or rewards of the environment were not finite" in said
    assert "learning-rate" not in said
    # Never three in a row, but most of them.
    assert main(f"--env Odd-v0 --algo a2c {SHORT}2 --max-skipped 100".split()) == DIVERGED
    assert (
        "of 10 updates were skipped, the last 5 in a row, because observations"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    ],
)
def test_too_little_memory_of_the_host_is_one_sentence(error, monkeypatch, capsys):
    def full(*arguments, **options):
        raise error

    monkeypatch.setattr(trainer, "build", full)
    assert main(CATCH.split()) == MISTAKEN
    said = capsys.readouterr().err
    assert said.startswith("train.py: the device has too little memory: use fewer --num-envs")
    assert not Path("mine").exists()


# --- the shell --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"), [("LOCAL_RANK", "abc"), ("WORLD_SIZE", "0"), ("WORLD_SIZE", "two")]
)
def test_what_the_shell_says_of_processes_is_checked(variable, value, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)
    assert main(CATCH.split()) == MISTAKEN
    said = capsys.readouterr().err
    assert said.startswith(f"train.py: the environment variable {variable} is '{value}', not a nu")
    assert not Path("mine").exists()


def test_several_processes_that_nobody_started_are_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(CATCH.split()) == MISTAKEN
    said = capsys.readouterr().err
    assert said.startswith("train.py: WORLD_SIZE is 2, but the other processes cannot be joined")
    assert said.count("\n") == 1


def test_without_arguments_nothing_is_trained(capsys):
    assert main([]) == MISTAKEN
    assert "python train.py --env Catch" in capsys.readouterr().out
    assert list(Path.cwd().iterdir()) == []


def test_commands_to_be_pasted_are_quoted(capsys):
    assert main([*CATCH.split()[:-1], "my runs"]) == DONE
    assert "  python evaluate.py 'my runs'\n" in capsys.readouterr().out
    assert main([*CATCH.split()[:-1], "my runs"]) == MISTAKEN
    assert "go on with it by --resume 'my runs'." in capsys.readouterr().err


@pytest.mark.seconds
def test_a_run_goes_on_when_nobody_reads_what_it_says():
    with started(CATCH) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == DONE
    assert len(Path("mine/metrics.csv").read_text().splitlines()) == 11


@pytest.mark.seconds
def test_a_terminal_that_knows_few_characters_gets_escapes():
    variables = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    with started(f"{CATCH}ü→", PYTHONIOENCODING="ascii", **variables) as process:
        out, err = process.communicate()
    assert (process.returncode, err) == (DONE, b"")
    assert b"Writing to mine\\" in out


@pytest.mark.parametrize("when", ["while it imports", "at its end"])
def test_ctrl_c_before_and_after_a_program_is_no_traceback(when):
    # A module that kills when it is imported, and one whose main lets Python do so while it ends.
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    late = (
        f"import atexit\ndef main():\n    atexit.register(lambda: exec({kill!r}))\n    return 0\n"
    )
    Path("task.py").write_text(kill if when == "while it imports" else late)
    # What runs in the background may have been told to ignore SIGINT.
    code = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "sys.path += ['.', sys.argv[1]]\nfrom auxgate.program import run\n"
    code += "sys.exit(run('task'))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, program.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(monkeypatch, given, spins):
    monkeypatch.setattr(os, "environ", dict(given))
    monkeypatch.setitem(sys.modules, "task", SimpleNamespace(main=lambda: DONE))
    assert program.run("task") == DONE
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_an_output_that_is_gone_is_written_to_without_an_error():
    reading, writing = os.pipe()
    with open(writing, "w", encoding="ascii") as stream:
        out = program.tolerant(stream)
        out.write("é")
        out.flush()
        assert os.read(reading, 9) == b"\\xe9"
        os.close(reading)
        out.write("nobody reads this")
        out.flush()


def test_a_policy_that_is_loaded_has_no_value():
    from agents.teachers import load_policy

    assert main(CATCH.split()) == DONE
    agent, _ = load_policy(Path("mine"), torch.device("cpu"))
    assert agent.value.weight.isnan().all()
    assert agent.policy.weight.isfinite().all()


def test_a_policy_is_played_in_the_precision_of_its_run(capsys):
    assert main(f"{CATCH} --precision bf16".split()) == DONE
    assert evaluate(["mine", "--episodes", "3", "--device", "cpu"]) == 0
    assert '"precision": "bf16"' in Path("mine/evaluation.json").read_text()
    assert evaluate(["mine", "--episodes", "3", "--device", "cpu", "--precision", "fp32"]) == 0
    assert '"precision": "fp32"' in Path("mine/evaluation.json").read_text()


@pytest.mark.parametrize(
    "line",
    [
        "--num-envs 1e6 --unroll-length 1e6",
        "--torso.mlp.widths 1000000 1000000",
        "--env.rows 1e6 --env.columns 1e6",
        "--core gru --core.gru.width 1e6",
    ],
)
def test_a_run_that_no_memory_holds_is_refused_before_its_folder_is_made(line, capsys):
    assert main([*CATCH.split(), *line.split()]) == MISTAKEN
    said = capsys.readouterr().err
    sentences = ("The run needs", "The run does not fit into memory", "--num-envs 3 needs")
    assert said.startswith(tuple(f"train.py: {start}" for start in sentences))
    assert said.count("\n") == 1
    assert not Path("mine").exists()


def test_an_evaluation_that_no_memory_holds_is_one_sentence(capsys):
    pytest.importorskip("envpool")
    line = "--episodes 1000000 --num-envs 1000000 --device cpu"
    assert evaluate([str(ROOT / "teachers" / "Breakout"), *line.split()]) == MISTAKEN
    said = capsys.readouterr().err
    assert said.startswith("evaluate.py: --num-envs 1000000 needs 1,002.8 GiB or more, but ")
    assert said.endswith(" GiB are free on cpu: use fewer.\n")


@pytest.mark.parametrize(
    "line", ["--worlds 1e6 --seeds 1e6", "--worlds 1e6 --points 1e6 --updates 1e9"]
)
def test_a_sweep_that_no_memory_holds_is_refused_before_its_folder_is_made(line, capsys):
    assert sweep(["--output", "mine", *line.split()]) == MISTAKEN
    assert capsys.readouterr().err.startswith("sweep.py: The sweep needs ")
    assert list(Path.cwd().iterdir()) == []
