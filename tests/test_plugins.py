"""Whoever installed the package adds components in a module of their own: docs/extending.md."""

import json
import re
import runpy
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import envs
from agents import algorithms, gates, heads
from agents.learning.gating import GatingConfig
from agents.networks import recurrent, torsos
from configs import presets
from configs.cli import parse
from configs.errors import UsageError
from configs.training import TrainConfig
from experiments.evaluation import command as evaluate
from experiments.training import command as train

PAGE = Path(__file__).resolve().parent.parent / "docs" / "extending.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
SHORT = "--num-envs 4 --unroll-length 3 --steps 24 --device cpu --threads 1"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch, tmp_path):
    """Plugins are forgotten after a test, and found in its folder."""
    for package in (heads, torsos, recurrent, algorithms, envs):
        monkeypatch.setattr(package._REGISTRY, "_added", {})
    monkeypatch.setattr(gates, "_added", {})
    monkeypatch.setattr(presets, "_added", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


def write(name, text):
    Path(f"{name}.py").write_text(text, "utf-8")
    return name


def forget():
    """As in another process."""
    for registry in (heads, torsos, recurrent, algorithms, envs):
        registry._REGISTRY._added.clear()
    gates._added.clear()
    presets._added.clear()
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


def test_every_kind_of_component_has_an_example():
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: re.search(r"(\w+)Config", text)[1])
def test_every_example_keeps_its_contract(text):
    runpy.run_path(f"{write('plugin_example', text)}.py", run_name="__main__")


@pytest.fixture
def modules():
    """The examples as two plugins: gate, head, torso and core; algorithm and environments."""
    first, second = "\n".join(EXAMPLES[:4]), "\n".join(EXAMPLES[4:])
    return write("plugin_networks", first), write("plugin_tasks", second)


def test_a_run_with_plugins_trains_resumes_and_is_evaluated(modules, capsys):
    line = (
        f"{SHORT} --plugin {modules[0]} --plugin={modules[1]} --env coin --algo baseline "
        "--torso linear --torso.linear.width 5 --core elman --aux reward --gate threshold "
        "--gate.threshold.threshold 0.5 --env.max-episode-steps 4 --run-dir run"
    )
    assert train.main(line.split()) == 0
    said = capsys.readouterr().out
    assert "There is no preset for baseline in coin" in said.replace("\n", " ")
    written = json.loads(Path("run/config.json").read_text("utf-8"))
    assert written["plugins"] == list(modules)
    assert written["gate"] == {"threshold": 0.5}
    forget()
    assert train.main(["--resume", "run", "--steps", "48"]) == 0
    forget()
    assert evaluate.main(["run", "--episodes", "2", "--num-envs", "2", "--device", "cpu"]) == 0
    assert "Coin" in capsys.readouterr().out


def test_a_policy_outside_its_run_names_the_plugin_that_it_needs(modules, capsys):
    line = f"{SHORT} --plugin {modules[0]} --env Catch --torso linear --run-dir run"
    assert train.main(line.split()) == 0
    Path("run/policy.safetensors").rename("mine.safetensors")
    forget()
    line = "mine.safetensors --episodes 2 --num-envs 2 --device cpu"
    assert evaluate.main(line.split()) == 2
    said = capsys.readouterr().err
    assert "torso linear" in said
    assert "plugin_networks" in said
    assert said.count("\n") == 1
    assert evaluate.main([*line.split(), "--plugin", modules[0]]) == 0


def test_a_policy_of_an_unknown_environment_names_the_plugin_that_has_it(modules, capsys):
    line = f"{SHORT} --plugin {modules[1]} --env Coin --run-dir run"
    assert train.main(line.split()) == 0
    Path("run/policy.safetensors").rename("mine.safetensors")
    forget()
    line = "mine.safetensors --episodes 2 --num-envs 2 --device cpu"
    assert evaluate.main(line.split()) == 2
    assert capsys.readouterr().err.endswith(f"It was trained with --plugin {modules[1]}.\n")
    assert evaluate.main([*line.split(), "--plugin", modules[1]]) == 0


def test_options_of_a_plugin_have_flags_help_and_checks(modules, capsys):
    line = f"--plugin {modules[0]} --env Catch --aux reward --gate threshold"
    with pytest.raises(SystemExit):
        parse([*line.split(), "--help-all"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--gate.threshold.threshold FLOAT" in text
    assert "Weight of the loss." in text
    assert "--plugin MODULE" in text
    for given, said in (
        ("--gate.threshold.threshold 2", "--gate.threshold.threshold must be from -1 to 1"),
        ("--aux.reward.coefficient -1", "--aux.reward.coefficient must be 0 or more, not -1.0."),
    ):
        with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
            parse([*line.split(), *given.split()])


def test_without_its_plugin_a_component_is_unknown(modules):
    config = parse(f"--plugin {modules[0]} --env Catch --torso linear".split())
    content = json.loads(json.dumps(config.to_json()))
    forget()
    with pytest.raises(UsageError, match="--torso linear is unknown"):
        parse(["--env", "Catch", "--torso", "linear"])
    assert TrainConfig.from_json(content) == TrainConfig.from_json(content)
    assert TrainConfig.from_json(content).plugins == (modules[0],)
    forget()
    Path(f"{modules[0]}.py").unlink()
    with pytest.raises(UsageError, match=r"^--plugin plugin_networks: there is no module"):
        TrainConfig.from_json(content)
    with pytest.raises(UsageError, match=r"there is no torso linear here, unless a plugin has it"):
        TrainConfig.from_json({**content, "plugins": []})


REGISTER = """
from dataclasses import dataclass
import agents.gates, agents.heads, envs
from agents.gates import CosineConfig
from envs.catch import CatchConfig

@dataclass(frozen=True)
class Wrong:
    needed: int

    def build(self, *_):
        return 3

{}
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("agents.gates.register('cosine', CosineConfig())", "gate cosine is taken: choose"),
        ("agents.gates.register('scope', CosineConfig())", "gate scope is taken: choose"),
        ("agents.gates.register('My gate', CosineConfig())", "gate My gate needs a name in lower"),
        ("agents.gates.register('mine', CosineConfig)", "gate mine must be registered with an"),
        ("agents.gates.register('mine', Wrong(1))", "gate mine must be registered with an"),
        ("agents.heads.register('none', Wrong(1))", "head none is taken: choose another name ("),
        ("agents.heads.register('mine', Wrong)", "head mine must be registered with an instance"),
        ("agents.heads.register('mine', 3)", "head mine must be registered with an instance of"),
        ("agents.heads.register('mine', Wrong(1))", "head mine has no default for its option need"),
        ("envs.register('mine', Wrong(1))", "environment family mine must be registered with an"),
        ("envs.register('mine', CatchConfig())", "environment family mine lists Catch, which is"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to"),
        ("1 / 0", "ZeroDivisionError: division by zero ("),
        ("def", "SyntaxError: invalid syntax ("),
    ],
)
def test_a_bad_plugin_is_one_sentence_and_exit_code_two(code, said, capsys):
    name = write("plugin_bad", REGISTER.format(code))
    assert train.main(f"--env Catch --plugin {name}".split()) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith(f"train.py: --plugin plugin_bad: {said}")
    assert sentence.count("\n") == 1
    assert f"{Path('plugin_bad.py').resolve()}, line " in sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["plugin_missing", "plugin_missing.part"])
def test_a_plugin_that_is_not_there_is_one_sentence(name, capsys):
    assert train.main(f"--env Catch --plugin {name}".split()) == 2
    said = capsys.readouterr().err
    assert said == (
        f"train.py: --plugin {name}: there is no module plugin_missing; install it, or add its "
        "folder to PYTHONPATH.\n"
    )
    assert train.main(["--plugin"]) == 2
    assert capsys.readouterr().err == "train.py: --plugin: expected one argument.\n"


def test_an_installed_plugin_is_always_there(modules):
    # As pip leaves it.
    info = Path("plugin_mine-1.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[auxgate.plugins]\nmine = {modules[0]}\n")
    config = parse(["--env", "Catch", "--torso", "linear"])
    assert config.plugins == ()
    assert config.torso == torsos.registered()["linear"]
    content = json.loads(json.dumps(config.to_json()))
    forget()
    assert TrainConfig.from_json(content).torso.width == 32


def test_a_gate_may_not_have_the_name_of_an_option_of_all_gates():
    assert {option.name for option in fields(GatingConfig)} <= set(gates.RESERVED)
