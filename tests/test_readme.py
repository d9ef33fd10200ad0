"""Every command of the README and of the pages on how to run it is one that the programs take."""

import re
import shlex
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from configs.cli import is_resume, parse, parse_evaluate, parse_resume, parse_sweep
from configs.grid import expand
from experiments.running.request import read_arguments
from experiments.training import run_folder as rundir

ROOT = Path(__file__).resolve().parent.parent
TAKEN_AS_THEY_ARE = ("git", "pip", "tensorboard", "cd", "source", "torchrun")
"""Programs of others."""

PAGES = ("README.md", "CONTRIBUTING.md", "docs/training.md", "docs/evaluation.md")


def commands_of(markdown):
    """The commands in the fenced bash blocks, without comments; `a && b` is two."""
    found = []
    for block in re.findall(
        r"^```(?:bash|sh|console)\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE
    ):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words:
                end = words.index("&&") if "&&" in words else len(words)
                found.append(tuple(words[:end]))
                words = words[end + 1 :]
    return list(dict.fromkeys(found))


README = commands_of((ROOT / "README.md").read_text("utf-8"))
COMMANDS = list(
    dict.fromkeys(
        command for page in PAGES for command in commands_of((ROOT / page).read_text("utf-8"))
    )
)


def of(*start):
    """The tests' parameters: what follows `start` in the commands that begin so."""
    return pytest.mark.parametrize(
        "arguments",
        [list(words[len(start) :]) for words in COMMANDS if words[: len(start)] == start],
        ids=" ".join,
    )


def test_the_readme_has_commands_and_the_main_job_is_the_documented_line():
    assert ("make", "train") in README
    assert ("make", "test") in README
    line = "python train.py --env Breakout --aux distill --gate cosine"
    assert tuple(line.split()) in README
    assert any(words[:2] == ("python", "evaluate.py") for words in README)


def test_the_environment_is_activated_before_the_first_python_command_of_the_readme():
    first = next(index for index, words in enumerate(README) if words[0] == "python")
    assert ("source", ".venv/bin/activate") in README[:first]


def test_every_command_is_of_a_kind_that_is_looked_at_here():
    for words in COMMANDS:
        if words[:2] == ("python", "-m"):
            assert find_spec(words[2]) is not None, words
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), words
        else:
            assert words[0] in ("make", *TAKEN_AS_THEY_ARE), words


@of("python", "train.py")
def test_every_training_command_is_taken(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if is_resume(arguments):
        run = parse(["--env", "Catch"])
        folder = arguments[arguments.index("--resume") + 1]
        rundir.create(replace(run, run=replace(run.run, run_dir=folder)))
        rundir.resumed(parse_resume(arguments))
    elif {"--help", "--help-all"} & {*arguments} or [*arguments][-1:] == ["--preset"]:
        with pytest.raises(SystemExit) as stop:
            parse(arguments)
        assert stop.value.code == 0
    else:
        parse(arguments)


@of("torchrun", "--nproc-per-node", "2", "train.py")
def test_every_command_for_several_processes_is_taken(arguments):
    parse(arguments)


@of("python", "evaluate.py")
def test_every_evaluation_command_is_taken(arguments):
    parse_evaluate(arguments)


@of("python", "sweep.py")
def test_every_sweep_command_is_taken(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parse_sweep(arguments)


@of("python", "study.py")
def test_every_study_command_is_taken(arguments):
    if "--resume" in arguments:
        read_arguments(arguments)
    else:
        assert expand(read_arguments(arguments).axes, {})


@of("make")
def test_every_target_is_in_the_makefile(arguments):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    asked = [argument for argument in arguments if "=" not in argument]
    assert asked
    assert [target for target in asked if target not in targets] == []


def test_commands_are_found_in_fenced_blocks_alone():
    block = "```bash\nmake a X=1  # why\npython b.py \\\n  --c && make d\n```"
    text = f"make no\n\n{block}\n\n```\nmake no\n```\n"
    assert commands_of(text) == [("make", "a", "X=1"), ("python", "b.py", "--c"), ("make", "d")]


MIGRATION = (ROOT / "docs" / "migration.md").read_text("utf-8")


def modules_told():
    """The rows of the table of modules: the old name, and where its content is now."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", MIGRATION.partition("## Modules")[2], re.M)
    assert len(rows) > 100
    return [(old, re.findall(r"`([\w.]+)`(?: \(([^)]*)\))?", now)) for old, now in rows]


@pytest.mark.parametrize(("old", "places"), modules_told(), ids=lambda value: str(value)[:40])
def test_a_module_that_moved_is_where_the_migration_notes_say(old, places):
    # `envs.atari` was a module and is a package now.
    assert old == "envs.atari" or not is_module(old)
    for module, names in places:
        found = import_module(module)
        for name in re.findall(r"\w+", names):
            assert hasattr(found, name), f"{module}.{name}"


def is_module(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the package above it
        return False
