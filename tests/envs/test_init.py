import subprocess
import sys
from dataclasses import fields

import pytest

from envs import PROTOCOLS, EnvConfig, EnvFamilies, find


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Catch", ("Catch", "catch")),
        ("catch", ("Catch", "catch")),
        ("cartpole-V1", ("CartPole-v1", "gym")),
        pytest.param("breakout", ("Breakout", "atari"), marks=pytest.mark.atari),
    ],
)
def test_a_name_leads_to_its_family_whatever_its_case(typed, found):
    assert find(typed) == found


@pytest.mark.atari
@pytest.mark.parametrize(
    ("typed", "meant"),
    [("Breakot", "Breakout"), ("CartPole", "CartPole-v1"), ("Cach", "Catch")],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones_first(typed, meant):
    with pytest.raises(ValueError, match=f"'{typed}': did you mean {meant}, .* Gymnasium id"):
        find(typed)


def test_without_emulators_a_game_is_still_known_and_the_refusal_of_others_names_the_cure(
    installed,
):
    installed()
    assert find("montezumarevenge") == ("MontezumaRevenge", "atari")
    with pytest.raises(ValueError, match=r"did you mean Breakout.*pip install 'auxgate\[atari\]'"):
        find("Breakot")


def test_every_family_offers_names_and_build():
    families = EnvFamilies()
    for family in fields(families):
        config = getattr(families, family.name)
        assert isinstance(config, EnvConfig)
        assert config.names() or family.name == "tasks"  # which joins those of all others


def test_no_name_belongs_to_two_families():
    families = EnvFamilies()
    names = [n.lower() for f in fields(families) for n in getattr(families, f.name).names()]
    assert len(set(names)) == len(names)


def test_only_families_with_protocols_have_them_and_the_defaults_come_first():
    families = EnvFamilies()
    for family, protocols in PROTOCOLS.items():
        assert next(iter(protocols.values())) == getattr(families, family)
        assert {type(config) for config in protocols.values()} == {type(getattr(families, family))}


def test_an_emulator_is_imported_only_when_atari_is_asked_for():
    program = """
import sys, envs
envs.find("Catch"), envs.find("CartPole-v1")
assert not {"envpool", "ale_py"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
