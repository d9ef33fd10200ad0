"""What a name of Gymnasium may come with: arguments, and a module before the id."""

import sys

import gymnasium
import pytest
import torch

from envs import find, names
from envs.gym import GymConfig, arguments_of

CPU = torch.device("cpu")


def test_arguments_reach_the_environment_and_the_protocol():
    kwargs = ("map_name=8x8", "is_slippery=false")
    env = GymConfig(kwargs=kwargs).build("FrozenLake-v1", 1, 0, CPU)
    assert env.reset().shape == (1, 64)
    assert env.step(torch.tensor([1])).observation.argmax() == 8  # never slips
    assert env.spec.protocol == "raw+map_name=8x8+is_slippery=false"


def test_the_value_of_an_argument_is_json_or_python_or_text():
    given = ("a=1", "b=false", "c=False", "d=(1, 2)", 'e=["x"]', "f=8x8", "g=", "h=a=b", "i=None")
    values = [1, False, False, (1, 2), ["x"], "8x8", "", "a=b", None]
    assert list(arguments_of(given).values()) == values


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        (("slippery=0",), "^kwargs cannot have slippery, .* it takes desc, map_name, is_slippery"),
        (("map_name=9x9",), "could not be made with kwargs map_name=9x9: "),
        (("map_name",), "^kwargs takes arguments as NAME=VALUE, not 'map_name'"),
        (("a=1", "a=2"), "^kwargs has a twice"),
        (("render_mode=human",), "^kwargs cannot have render_mode, which is set where"),
        (("num_envs=3",), "^kwargs cannot have num_envs, which is an argument of Gymnasium's"),
    ],
)
def test_wrong_arguments_are_refused(kwargs, said):
    with pytest.raises(ValueError, match=said):
        GymConfig(kwargs=kwargs).build("FrozenLake-v1", 1, 0, CPU)


MODULE = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
gymnasium.register("AuxgatePole-v0", CartPoleEnv)
gymnasium.register("auxgatepole-v0", CartPoleEnv)
gymnasium.register("space/AuxgateOther-v0", CartPoleEnv)
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Modules that can be imported, as a user has them: three good ids, and three failures."""
    contents = {"auxgate_good": MODULE, "auxgate_lacks": "import auxgate_nowhere.inner"}
    contents |= {"auxgate_fails": "raise RuntimeError('no\\nlicence.')", "auxgate_ends": "exit(3)"}
    for name, content in contents.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(gymnasium.registry)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)
    for name in contents:
        sys.modules.pop(name, None)


def test_a_module_before_the_id_is_imported_and_stays_in_the_name(modules):
    name = "auxgate_good:AuxgatePole-v0"
    assert find(name) == (name, "gym")
    assert find("auxgate_good:SPACE/auxgateother-V0")[0] == "auxgate_good:space/AuxgateOther-v0"
    env = GymConfig().build(name, 2, 0, CPU)
    assert env.spec.name == name
    assert env.spec.action_set == "AuxgatePole-v0:discrete2"  # as without the module
    assert env.reset().shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("auxgate_good:AUXGATEPOLE-v0", "AuxgatePole-v0 or auxgatepole-v0, which differ in upper"),
        ("auxgate_good:AuxgateOthr-v0", "registers no .* did you mean space/AuxgateOther-v0"),
        ("auxgate_none:X-v0", "module auxgate_none, which is not installed: install it, or add"),
        ("auxgate_lacks:X-v0", "auxgate_lacks, which needs the package auxgate_nowhere: install"),
        ("auxgate_fails:X-v0", r"cannot be imported \(RuntimeError: no licence\): mend it"),
        ("auxgate_ends:X-v0", r"cannot be imported \(SystemExit: 3\): mend it"),
        *((name, "write it as module:Id") for name in (":X", "m:", "a b:X", "a:b:X", ".m:X")),
    ],
)
def test_a_module_that_does_not_help_is_refused_in_one_sentence(name, said, modules):
    with pytest.raises(ValueError, match=said) as refused:
        find(name)
    assert "\n" not in str(refused.value)


def test_the_id_of_a_well_known_package_finds_it_or_names_the_cure(modules, monkeypatch):
    monkeypatch.setitem(names.PACKAGES, "auxgate", "auxgate_good")
    assert find("AuxgatePole-v0") == ("AuxgatePole-v0", "gym")
    monkeypatch.setitem(sys.modules, "minigrid", None)  # as if it were not installed
    cure = r"pip install minigrid\), .* then choose minigrid:MiniGrid-New-v7\."
    with pytest.raises(ValueError, match=cure):
        find("MiniGrid-New-v7")
