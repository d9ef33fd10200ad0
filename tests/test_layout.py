"""Layers point one way, rooms are few, every package is tested, no module grows without end."""

import ast
import functools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gridworld", "envs", "agents", "configs", "experiments")
SCRIPTS = tuple(sorted(path for path in ROOT.glob("*.py")))
MODULES = tuple(sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py")))

EXAMPLES = tuple(sorted((ROOT / "examples").rglob("*.py")))

BELOW = {
    "gridworld": (),
    "envs": ("gridworld",),
    # What crosses from the environments: their contract, and their episodes' returns.
    "agents": ("gridworld", "envs.base", "envs.episodes"),
    "configs": ("gridworld", "envs", "agents"),
    "experiments": ("gridworld", "envs", "agents", "configs"),
}
"""What each package may import of the others."""

GATES = ("torch", "jaxtyping", "agents.gates", *sys.stdlib_module_names)
"""All that the gates may import: they are useful without the rest."""

EMULATORS = {"envpool": "envs/envpool/pool.py", "ale_py": "envs/atari/ale.py"}
"""Each is imported by one module, so that everything else works without it."""

READ_ARGUMENTS = (
    "configs/",
    "experiments/studies/",
    "experiments/report/__main__.py",
    "experiments/evaluation/explorer.py",
    "experiments/evaluation/returns.py",
)
"""What reads a command line: the options of the scripts, and programs run by `python -m`."""

SAYS_NUMBERS = ("agents/logs/report.py", "agents/logs/terminal.py")
"""Where numbers leave the device."""


def name_of(path):
    return str(path.relative_to(ROOT))


def imports_of(path):
    """The full names of all modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom(level=0, module=str(module)):
                # `from envs import base` names a module as well as `from envs.base import Step`.
                found |= {
                    f"{module}.{alias.name}" if is_module(module, alias.name) else module
                    for alias in node.names
                }
            case ast.ImportFrom():
                raise AssertionError(f"{name_of(path)} has a relative import")
    return found


def is_module(package, name):
    return (ROOT / package.replace(".", "/") / f"{name}.py").is_file()


def lies_in(module, allowed):
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def each(paths):
    """Runs a test on all paths as one case that names every path on which it fails."""

    def of_all(test):
        @functools.wraps(test)
        def run():
            failures = {}
            for path in paths:
                try:
                    test(path)
                except AssertionError as error:
                    failures[name_of(path)] = str(error)
            assert not failures

        del run.__wrapped__  # pytest would ask for a fixture called path
        return run

    return of_all


def test_every_folder_of_modules_is_a_package_and_so_is_installed():
    # `setup.py` places in a wheel what it finds below the packages at the top.
    folders = {path.parent for path in MODULES}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert tops == {*PACKAGES, "auxgate"}


@each(MODULES)
def test_layers_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imports_of(path) if lies_in(name, (*PACKAGES, "train", "evaluate"))}
    assert {name for name in ours if not lies_in(name, (package, *BELOW[package]))} == set()


@each(sorted((ROOT / "agents" / "gates").rglob("*.py")))
def test_the_gates_need_torch_alone(path):
    assert {name for name in imports_of(path) if not lies_in(name, GATES)} == set()


@each(MODULES + SCRIPTS)
def test_an_emulator_is_imported_by_its_own_module_alone(path):
    for emulator, module in EMULATORS.items():
        found = {name for name in imports_of(path) if lies_in(name, (emulator,))}
        assert not found or name_of(path) == module


@each([path for path in MODULES if not name_of(path).startswith(READ_ARGUMENTS)])
def test_only_configs_and_programs_know_the_command_line(path):
    assert not {name for name in imports_of(path) if lies_in(name, ("tyro", "argparse"))}


def folders():
    return sorted({path.parent for path in MODULES if path.name != "__init__.py"})


@pytest.mark.parametrize("folder", folders(), ids=name_of)
def test_every_package_has_its_tests(folder):
    assert list((ROOT / "tests" / folder.relative_to(ROOT)).glob("test_*.py"))


def rooms():
    """The packages and modules at the top of `agents`, by name, with their files."""
    found = {}
    for path in (ROOT / "agents").rglob("*.py"):
        inside = path.relative_to(ROOT / "agents").parts
        if inside != ("__init__.py",):
            found.setdefault(inside[0].removesuffix(".py"), []).append(path)
    return found


def test_agents_has_few_rooms_on_few_floors():
    found = rooms()
    assert len(found) <= 12
    below = {
        room: {
            name.split(".")[1]
            for path in files
            for name in imports_of(path)
            if name.startswith("agents.")
        }
        - {room}
        for room, files in found.items()
    }
    floors = {}
    while len(floors) < len(found):
        ready = {
            room: 1 + max((floors[other] for other in below[room]), default=0)
            for room in found
            if room not in floors and below[room] <= floors.keys()
        }
        assert ready, f"a circle among {sorted(found.keys() - floors.keys())}"
        floors |= ready
    assert max(floors.values()) <= 5, floors


@each(SCRIPTS)
def test_every_script_has_its_test(path):
    assert (ROOT / "tests" / f"test_{path.name}").is_file()


@each(MODULES + SCRIPTS + EXAMPLES)
def test_no_module_is_longer_than_400_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


@each([path for path in MODULES if name_of(path) not in SAYS_NUMBERS])
def test_numbers_leave_the_device_only_to_be_reported(path):
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "item"
    ]
    assert calls == []


@each(MODULES + SCRIPTS + EXAMPLES)
def test_annotations_are_real_so_that_shapes_can_be_checked(path):
    assert "__future__" not in imports_of(path)


def definitions():
    """Every class of the packages, by its name."""
    trees = (ast.parse(path.read_text("utf-8")) for path in MODULES)
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def described(node):
    return "Args:" in (ast.get_docstring(node) or "")


def inherits_description(owner, name, classes):
    """Whether a base class of the packages describes the arguments of the method of that name."""
    for base in owner.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        parent = classes.get(base.id if isinstance(base, ast.Name) else getattr(base, "attr", ""))
        if parent is None:
            continue
        methods = {node.name: node for node in parent.body if isinstance(node, ast.FunctionDef)}
        if name in methods and described(methods[name]):
            return True
        if inherits_description(parent, name, classes):
            return True
    return False


def undescribed(tree, classes):
    """Public functions and methods that take three or more parameters and have no `Args:`."""
    owners = [None, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for owner in owners:
        if owner is not None and owner.name.startswith("_"):
            continue
        for node in tree.body if owner is None else owner.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            if node.name.startswith("_") and node.name != "__init__":
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [argument.arg for argument in arguments]
            if owner is not None and names[:1] in (["self"], ["cls"]):
                names = names[1:]
            if len(names) < 3 or described(node):
                continue
            if owner is not None and node.name == "__init__" and described(owner):
                continue
            if owner is None or not inherits_description(owner, node.name, classes):
                yield f"{owner.name + '.' if owner else ''}{node.name}"


def test_functions_of_three_or_more_parameters_describe_them():
    classes = definitions()
    found = {
        f"{name_of(path)}: {function}"
        for path in MODULES
        for function in undescribed(ast.parse(path.read_text("utf-8")), classes)
    }
    assert found == set()
