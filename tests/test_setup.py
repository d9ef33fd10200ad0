"""The wheel, installed where other packages have our names: nothing of ours but `auxgate`."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from setuptools import Distribution

ROOT = Path(__file__).resolve().parent.parent
CATCH = (
    "--env Catch --env.rows 4 --num-envs 2 --unroll-length 4 --device cpu --threads 1 "
    "--precision fp32 --run-dir run"
)


@pytest.fixture(scope="module")
def build():
    """The functions of `setup.py`, which sets nothing up here."""
    source = (ROOT / "setup.py").read_text("utf-8")
    names = {"__file__": str(ROOT / "setup.py"), "__name__": "setup_py"}
    exec(source.rpartition("\nsetup(")[0], names)
    return names


# --- what is rewritten ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("checkout", "wheel"),
    [
        ("from agents.gates import make", "from auxgate.agents.gates import make"),
        (
            "from envs.base import (\n    Step,\n    VecEnv,\n)",
            "from auxgate.envs.base import (\n    Step,\n    VecEnv,\n)",
        ),
        ("import gridworld", "from auxgate import gridworld"),
        ("import envs.base as base", "import auxgate.envs.base as base"),
        (
            "import agents.teachers",
            "import auxgate.agents.teachers; from auxgate import agents",
        ),
        ("import os, train", "import os; from auxgate._scripts import train"),
        ("def f():\n    import evaluate", "def f():\n    from auxgate._scripts import evaluate"),
        ("import torch\nfrom numpy import array", "import torch\nfrom numpy import array"),
        ("agents = envs.step(configs)", "agents = envs.step(configs)"),
        ('entry = "envs.catch:CatchVecEnv"', 'entry = "auxgate.envs.catch:CatchVecEnv"'),
        ('key = "agents.catch"', 'key = "agents.catch"'),
        ('run([python, "train.py", *more])', 'run([python, "-m", "auxgate", "train", *more])'),
        ('cli(prog="train.py")', 'cli(prog="auxgate train")'),
        ('f"python train.py --env {env}"', 'f"auxgate train --env {env}"'),
        ('("python "\n "train.py --env")', '(""\n "auxgate train --env")'),
        ('"python -m experiments.report"', '"python -m auxgate.experiments.report"'),
        ('"ä"; from agents import gates', '"ä"; from auxgate.agents import gates'),
        (
            '"""Try:\n\n    from envs import find\n"""',
            '"""Try:\n\n    from auxgate.envs import find\n"""',
        ),
    ],
)
def test_imports_and_commands_name_their_new_place(build, checkout, wheel):
    assert build["installed"](checkout) == wheel


def test_a_source_distribution_has_all_that_a_wheel_is_built_from(build):
    listed = set(build["BuildPackage"](Distribution()).get_source_files())
    for package in build["PACKAGES"]:
        inside = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
        assert inside
        assert inside <= listed
    assert "teachers/Breakout/policy.safetensors" in listed
    assert build["PACKAGES"] == {"agents", "configs", "envs", "experiments", "gridworld"}


# --- the wheel, built and used ----------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by pip from a copy of the checkout, so that nothing is left behind here."""
    folder = tmp_path_factory.mktemp("wheel")
    skipped = (".git", ".venv", "runs", "build", "tests", "docs", "*.egg-info", ".*_cache")
    source = shutil.copytree(
        ROOT, folder / "source", ignore=shutil.ignore_patterns("__pycache__", *skipped)
    )
    # What an earlier version left in the folder of builds stays out of the wheel.
    (source / "build" / "lib" / "agents").mkdir(parents=True)
    (source / "build" / "lib" / "agents" / "old.py").touch()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "-w", folder, source], check=True)
    return next(folder.glob("auxgate-*.whl"))


@pytest.fixture(scope="module")
def site(wheel):
    """A folder with the wheel installed next to other people's `agents` and `evaluate`."""
    target = wheel.parent / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--target", target]
    subprocess.run([*pip, "install", *offline, wheel], check=True)
    for name in ("agents", "evaluate", "train"):
        (target / name).mkdir()
        (target / name / "__init__.py").write_text(f"theirs = '{name}'\n")
    return target


@pytest.fixture
def python(site, tmp_path):
    """Runs Python in an empty folder, where the checkout is out of reach."""

    def python(*arguments):
        # An editable install of the checkout adds its root to the path: taken off again.
        start = f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n"
        (tmp_path / "sitecustomize.py").write_text(start)
        (tmp_path / "usercustomize.py").write_text(start)
        found = os.pathsep.join([str(tmp_path), str(site)])
        environment = {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout, done.stderr

    return python


@pytest.mark.slow
def test_a_wheel_has_one_name_at_the_top(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"auxgate"}
    assert not any("_checkout" in name or "old.py" in name for name in names)


@pytest.mark.slow
def test_installed_gates_need_torch_and_jaxtyping_alone(python):
    loop = """
        import sys
        from importlib.machinery import PathFinder

        class Hide(PathFinder):
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                if name.split(".")[0] not in OTHERS:
                    return PathFinder.find_spec(name, path, target)

        OTHERS = {"numpy", "gymnasium", "tyro", "rich", "tensorboard", "safetensors", "PIL"}
        OTHERS |= {"matplotlib", "agents", "envs", "configs", "experiments", "gridworld"}
        sys.meta_path[sys.meta_path.index(PathFinder)] = Hide
        import torch
        from auxgate.gates import gated_backward, make

        torch.manual_seed(0)
        trunk, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        gate = make("cosine")
        optimizer = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.1)
        losses = []
        for _ in range(20):
            main, auxiliary = head(trunk(torch.ones(3)).tanh()).square()
            optimizer.zero_grad()
            gated_backward([main, auxiliary], gate, [*trunk.parameters()], [*head.parameters()])
            optimizer.step()
            losses.append(main.item())
        assert losses[-1] < losses[0]
        print(sorted(name for name in sys.modules if name.split(".")[0] in OTHERS))
    """
    code, said, error = python("-W", "ignore", "-c", textwrap.dedent(loop))
    assert (code, said.strip()) == (0, "[]"), error


@pytest.mark.slow
def test_other_peoples_packages_stay_what_they_are_and_all_of_ours_can_be_imported(python, site):
    check = """
        import pkgutil, sys
        import agents, evaluate, train
        import auxgate
        assert (agents.theirs, evaluate.theirs, train.theirs) == ("agents", "evaluate", "train")
        for module in pkgutil.walk_packages(auxgate.__path__, "auxgate."):
            if not module.name.endswith((".atari.ale", ".atari.envpool")):
                __import__(module.name)
        ours = {"configs", "envs", "experiments", "gridworld", "sweep"}
        assert not ours & set(sys.modules)
        from auxgate.experiments.training.teachers import SHIPPED_TEACHERS
        print(auxgate.__file__, SHIPPED_TEACHERS)
    """
    code, said, error = python("-c", textwrap.dedent(check))
    assert code == 0, error
    file, teachers = map(Path, said.split())
    assert file.is_relative_to(site)
    assert (teachers / "Breakout" / "policy.safetensors").is_file()
    assert teachers.is_relative_to(site)


@pytest.mark.slow
def test_the_installed_command_trains_resumes_and_evaluates(python, tmp_path):
    code, said, error = python("-m", "auxgate", "train", *CATCH.split(), "--steps", "64")
    assert code == 0, error
    assert "auxgate evaluate run" in said
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["commit"] == "unknown"
    code, said, error = python("-m", "auxgate", "train", "--resume", "run", "--steps", "128")
    assert code == 0, error
    assert "Done: 128 steps" in said
    code, said, error = python("-m", "auxgate", "evaluate", "run", "--episodes", "3")
    assert code == 0, error


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate", "sweep"])
def test_help_names_the_command_as_it_was_typed(python, command):
    code, said, _ = python("-m", "auxgate", command, "--help")
    assert code == 0
    assert f"usage: auxgate {command}" in said
    assert f"{command}.py" not in said


@pytest.mark.slow
def test_without_the_extra_the_command_names_it(python, tmp_path):
    hide = """
        import sys
        from importlib import util

        real = util.find_spec
        util.find_spec = lambda name, *rest: None if name == "tyro" else real(name, *rest)
        from auxgate.__main__ import main
        sys.exit(main(["train", "--env", "Catch"]))
    """
    code, _, error = python("-c", textwrap.dedent(hide))
    assert code == 2
    assert error == (
        "auxgate train: training needs tyro, which is not installed: "
        "pip install 'auxgate[train]'.\n"
    )
