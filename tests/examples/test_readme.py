"""The README's snippet runs, and its commands are those of the scripts."""

import re
from pathlib import Path

import torch
from torch import nn

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
README = (EXAMPLES / "README.md").read_text("utf-8")


def versions():
    """The loop before and after the change, and how many lines the change adds."""
    [diff] = re.findall(r"^```diff\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    lines = diff.splitlines()
    before = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    after = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    return before, after, [line for line in lines if line.startswith("+") and line.strip("+ ")]


def trained(loop):
    """All parameters after two batches of B = 4, and the names that the loop leaves behind."""
    torch.manual_seed(0)
    trunk, heads = nn.Linear(3, 5), nn.ModuleList([nn.Linear(5, 2), nn.Linear(5, 1)])
    names = {
        "trunk": trunk,
        "heads": heads,
        "optimizer": torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.1),
        "batches": [
            (torch.randn(4, 3), torch.tensor([0, 1, 1, 0]), torch.randn(4, 1)) for _ in range(2)
        ],
        "classify": lambda features, labels: nn.functional.cross_entropy(
            heads[0](features), labels
        ),
        "rotate": lambda features, angles: (heads[1](features) - angles).square().mean(),
    }
    exec(loop, names)
    return [parameter.detach() for parameter in [*trunk.parameters(), *heads.parameters()]], names


def test_five_lines_are_added():
    assert len(versions()[2]) == 5


def test_the_loop_with_a_gate_that_is_open_is_the_loop_before():
    before, after, _ = versions()
    old, _ = trained(before)
    new, _ = trained(after.replace('"cosine"', '"sum"'))
    for first, second in zip(old, new, strict=True):
        torch.testing.assert_close(first, second)


def test_the_loop_runs_as_it_stands_and_the_gate_gates():
    before, after, _ = versions()
    old, _ = trained(before)
    new, names = trained(after)
    assert names["gate"].__class__.__name__ == "Cosine"
    # The trunk is gated, so what follows from it differs too.
    assert all(not torch.equal(first, second) for first, second in zip(old, new, strict=True))


def test_every_script_of_the_readme_is_there_and_all_modules_are_named():
    assert set(re.findall(r"^python examples/(\S+)", README, re.MULTILINE)) == {
        "vectors.py",
        "surfaces.py",
        "regression.py",
        "digits.py",
    }
    table = set(re.findall(r"`(\w+\.py)`", README))
    assert table == {path.name for path in EXAMPLES.rglob("*.py")}


def test_the_page_of_the_gates_shows_the_same_change():
    page = (EXAMPLES.parent / "docs" / "gates" / "README.md").read_text("utf-8")
    pattern = re.compile(r"^```diff\n(.*?)^```", re.DOTALL | re.MULTILINE)
    assert pattern.findall(page) == pattern.findall(README)
