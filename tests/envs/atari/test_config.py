"""How games may be played: options, protocols, the choice of backend and pools."""

from dataclasses import replace

import pytest
import torch

from envs.atari.config import BASELINES, MACHADO, PROTOCOLS, AtariConfig

CPU = torch.device("cpu")

needs_emulators = pytest.mark.atari


@needs_emulators
@pytest.mark.parametrize(
    ("packages", "asked", "protocol"),
    [
        (("envpool", "ale_py"), "auto", "baselines"),
        (("ale_py",), "auto", "baselines+backend=ale"),
        (("envpool", "ale_py"), "ale", "baselines+backend=ale"),
        (("envpool",), "envpool", "baselines"),
    ],
)
def test_the_backend_is_the_one_asked_for_or_the_first_installed(
    installed, build_game, packages, asked, protocol
):
    installed(*packages)
    assert build_game(num_envs=1, backend=asked).spec.protocol == protocol


def test_without_any_backend_a_game_is_refused_with_the_cure(installed):
    installed()
    cure = r"Pong needs envpool or ale-py: pip install 'auxgate\[atari\]'"
    with pytest.raises(ValueError, match=cure):
        AtariConfig().build("Pong", 1, 0, CPU)


@pytest.mark.parametrize(
    ("asked", "there", "package"), [("ale", "envpool", "ale-py"), ("envpool", "ale_py", "envpool")]
)
def test_a_backend_that_is_not_installed_is_refused_with_the_cure(installed, asked, there, package):
    installed(there)
    said = rf"^backend {asked} needs {package}, .*: pip install 'auxgate\[atari\]'"
    with pytest.raises(ValueError, match=said):
        AtariConfig(backend=asked).build("Pong", 1, 0, CPU)


@needs_emulators
def test_a_name_is_spelt_as_envpool_spells_it(build_game, backend):
    assert build_game("mspacman", num_envs=1, backend=backend).spec.name == "MsPacman"


@needs_emulators
def test_an_unknown_game_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="'Breakot': did you mean Breakout"):
        AtariConfig().build("Breakot", 1, 0, CPU)


@pytest.mark.parametrize(
    ("num_envs", "asked", "pools"),
    [(8, 0, 2), (10, 0, 2), (7, 0, 1), (9, 0, 1), (6, 0, 1), (8, 1, 1), (8, 8, 8), (6, 3, 3)],
)
def test_games_are_halved_from_eight_on_or_as_asked(num_envs, asked, pools):
    # Asked of the config alone, since every game takes a fifth of a second to build.
    assert AtariConfig(pools=asked)._num_pools(num_envs) == pools


@needs_emulators
def test_pools_are_equal_parts(build_game):
    env = build_game(num_envs=4, pools=2)
    assert [part.spec.num_envs for part in env.parts] == [2, 2]
    assert env.spec.num_envs == 4


@needs_emulators
def test_pools_that_do_not_divide_the_environments_are_refused_with_the_cure(build_game):
    cure = r"^pools 4 does not divide num_envs 6: .*pools 0"
    with pytest.raises(ValueError, match=cure):
        build_game(num_envs=6, pools=4)


@needs_emulators
def test_the_number_of_pools_changes_no_game(build_game, backend):
    one = build_game(num_envs=4, backend=backend, pools=1)
    two = build_game(num_envs=4, backend=backend, pools=2)
    assert one.spec == two.spec
    assert torch.equal(one.reset(), two.reset())
    generator = torch.Generator().manual_seed(0)
    ends = 0
    for action in torch.randint(4, (100, 4), generator=generator):
        left, right = one.step(action), two.step(action)
        ends += int(left.terminated.sum())
        for name in ("observation", "reward", "terminated", "truncated", "valid", "ended"):
            assert torch.equal(getattr(left, name), getattr(right, name))
    assert ends > 0


def test_the_protocols_are_what_they_are_known_for():
    assert AtariConfig() == BASELINES
    assert tuple(PROTOCOLS) == ("baselines", "machado")
    # Machado et al. 2018: 0.25, all 18 actions, no information on lives.
    assert (MACHADO.sticky_actions, MACHADO.full_action_space) == (0.25, True)
    assert not MACHADO.episodic_life
    for protocol in (BASELINES, MACHADO):
        assert protocol.max_episode_steps * protocol.frame_skip == 108_000


@needs_emulators
def test_under_machado_all_actions_are_offered_and_a_lost_life_ends_nothing(
    build_game, backend, play_until_over
):
    rules = {
        "noop_max": MACHADO.noop_max,
        "sticky_actions": MACHADO.sticky_actions,
        "full_action_space": MACHADO.full_action_space,
        "episodic_life": MACHADO.episodic_life,
        "fire_reset": MACHADO.fire_reset,
    }
    env = build_game(num_envs=1, backend=backend, **rules)
    assert env.spec.protocol.startswith("machado")
    assert env.spec.num_actions == 18
    steps = play_until_over(env)
    assert sum(step.terminated.item() for step in steps) == 1


@pytest.mark.parametrize(
    ("config", "protocol"),
    [
        (AtariConfig(), "baselines"),
        (AtariConfig(num_threads=5, pools=3), "baselines"),
        (AtariConfig(backend="envpool"), "baselines"),
        (AtariConfig(sticky_actions=0.25), "baselines+sticky_actions=0.25"),
        (
            AtariConfig(noop_max=1, full_action_space=True),
            "baselines+noop_max=1+full_action_space=True",
        ),
        (MACHADO, "machado"),
        (replace(MACHADO, backend="envpool", pools=2), "machado"),
        (replace(MACHADO, noop_max=30), "machado+noop_max=30"),
        (
            replace(MACHADO, frame_stack=1, fire_reset=True),
            "machado+frame_stack=1+fire_reset=True",
        ),
    ],
)
def test_the_protocol_is_the_nearest_published_one_and_what_departs_from_it(config, protocol):
    assert config.protocol("envpool") == protocol
    assert config.protocol("ale") == f"{protocol}+backend=ale"


def test_the_protocol_does_not_depend_on_the_flags_that_led_to_a_game():
    # All of Machado's but two options; and Baselines' with three of Machado's.
    options = {"sticky_actions": 0.25, "full_action_space": True, "episodic_life": False}
    departing = replace(MACHADO, noop_max=30, fire_reset=True)
    assert departing == AtariConfig(**options)
    assert departing.protocol("envpool") == "machado+noop_max=30+fire_reset=True"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noop_max": 0}, r"^noop_max 0 would crash envpool; for no no-ops use 1"),
        ({"frame_skip": 0}, r"^frame_skip must be at least 1, not 0"),
        ({"frame_stack": 0}, r"^frame_stack must be at least 1, not 0"),
        ({"max_episode_steps": 0}, r"^max_episode_steps must be at least 1, not 0"),
        ({"sticky_actions": 1.0}, r"^sticky_actions is a probability below 1, not 1.0"),
        ({"sticky_actions": -0.1}, r"^sticky_actions is a probability below 1, not -0.1"),
        ({"num_threads": -1}, r"^num_threads must not be negative"),
        ({"pools": -2}, r"^pools must not be negative, but is -2"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_their_flag(options, message):
    with pytest.raises(ValueError, match=message):
        AtariConfig(**options)
