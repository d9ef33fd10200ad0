import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import pytest
import torch
from gymnasium import spaces

from agents.networks.actor_critic import ActorCritic
from agents.networks.torsos import MlpConfig
from agents.runtime.checkpoint import load_tensors, save_tensors
from agents.teachers import PolicyCard, export_policy
from configs.cli import parse
from configs.errors import UsageError
from configs.programs import EvaluateOptions
from envs.atari.config import AtariConfig
from envs.gridworld.config import GridConfig
from envs.gym import GymConfig
from experiments.evaluation.players import as_trained, load_player, scores_beside
from experiments.training.hardware import Hardware

CPU = torch.device("cpu")
HARDWARE = Hardware(CPU, "fp32", 1, "")


@pytest.fixture
def policy(tmp_path):
    """An untrained policy of Catch, four rows high; fields of its card may be changed."""

    def policy(**changes):
        card = {
            "env": "Catch",
            "action_set": "Catch:left-stay-right",
            "num_actions": 3,
            "observation_shape": (4, 5),
            "observation_dtype": "torch.float32",
            "protocol": "raw+rows=4",
            "torso": "mlp",
            "torso_options": {"widths": (7, 5)},
            "steps": 8,
            "env_options": {"rows": 4},
        } | changes
        shape, num_symbols = card["observation_shape"], card.get("num_symbols", 0)
        torso = MlpConfig(**card["torso_options"]).build(shape, num_symbols)
        path = tmp_path / "policy.safetensors"
        export_policy(path, ActorCritic(torso, card["num_actions"]), PolicyCard(**card))
        return str(path)

    return policy


def test_every_policy_of_a_run_plays_in_the_run_s_precision(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    config = parse(["--env", "Catch", "--precision", "fp32"])
    (run / "config.json").write_text(json.dumps(config.to_json()))
    usual = replace(HARDWARE, precision="bf16")
    for name in (run, run / "policy-Catch-2.safetensors"):
        assert as_trained(str(name), EvaluateOptions((str(name),)), usual).precision == "fp32"
    # Another library's file may lie next to another program's config.
    assert as_trained(str(run / "model.zip"), EvaluateOptions(("model",)), usual) == usual
    asked = EvaluateOptions((str(run),), precision="bf16")
    assert as_trained(str(run), asked, usual).precision == "bf16"
    assert as_trained(str(tmp_path / "policy"), EvaluateOptions(("policy",)), usual) == usual


def refused(run):
    with pytest.raises(UsageError) as error:
        load_player(run, HARDWARE, render=False)
    said = str(error.value)
    assert said.startswith(f"{run} cannot be played: ")
    assert said.endswith((".", "?"))
    return said


def test_a_policy_plays_in_the_environment_that_it_was_trained_in(policy):
    player = load_player(policy(), HARDWARE, render=False)
    env = player.build(3, 0, HARDWARE, render=False)
    assert (env.spec.name, env.spec.protocol, env.spec.num_envs) == ("Catch", "raw+rows=4", 3)
    observation = env.reset()
    assert player.agent.act(observation, torch.Generator()).action.shape == (3,)
    with pytest.raises(NotImplementedError):
        env.render()
    assert player.build(1, 0, HARDWARE, render=True).render().shape == (4 * 16, 5 * 16, 3)


@pytest.mark.atari
def test_options_that_do_not_change_the_game_are_chosen_anew(policy):
    # As a run of 64 environments in four pools on another machine leaves them: four do not divide
    # one, or six.
    pixels = {
        "env": "Pong",
        "action_set": "Pong:minimal6",
        "num_actions": 6,
        "observation_shape": (4, 84, 84),
        "observation_dtype": "torch.uint8",
        "env_options": {"noop_max": 7, "num_threads": 64, "pools": 4},
    }
    player = load_player(policy(**pixels), HARDWARE, render=False)
    env = player.build(6, 0, HARDWARE, render=False)
    assert env.spec.num_envs == 6
    assert env.spec.protocol.startswith("baselines+noop_max=7")
    env.close()


def test_an_environment_that_has_changed_is_refused(policy):
    said = refused(policy(action_set="Catch:up-and-down"))
    assert "Catch has" in said
    assert "Catch:left-stay-right" in said
    assert "Catch:up-and-down" in said
    refused(policy(observation_shape=(6, 5)))
    refused(policy(observation_dtype="torch.uint8"))


def test_a_policy_that_is_not_there_or_damaged_or_foreign_is_refused(policy, tmp_path):
    assert "there is no policy at" in refused(str(tmp_path / "nowhere"))
    assert "Unknown environment 'Unheard'" in refused(policy(env="Unheard"))
    assert "unheard" in refused(policy(env_options={"unheard": 1}))
    assert "rows must be at least 2" in refused(policy(env_options={"rows": 0}))
    path = policy()
    weights, card = load_tensors(tmp_path / "policy.safetensors")
    save_tensors(tmp_path / "policy.safetensors", weights, card | {"format": "other"})
    assert "is damaged or foreign" in refused(path)


def test_a_policy_of_the_gridworld_plays_worlds_that_it_was_not_trained_in(policy):
    # Rewards of the settings are a list in the file, and a tuple in the options.
    options = {"height": 6, "width": 7, "num_worlds": 4, "terminal_rewards": (3.0, -1.0)}
    symbols = {"observation_shape": (3, 3), "observation_dtype": "torch.uint8"}
    grid = symbols | {
        "env": "Gridworld",
        "action_set": "Gridworld:up-right-down-left",
        "num_actions": 4,
        "num_symbols": 5,
        "env_options": options,
    }
    run = policy(**grid)
    env = load_player(run, HARDWARE, render=False).build(2, 0, HARDWARE, render=False)
    assert env.spec.protocol.startswith("raw+held-out+")
    seen = GridConfig(**options).build("Gridworld", 2, 0, CPU).snapshot()["worlds"]
    assert not torch.isin(env.snapshot()["worlds"], seen).any()
    assert "(3, 3), 5" in refused(policy(**grid | {"num_symbols": 4}))


class Silent(gymnasium.Env):
    """Knows nothing of pictures, nor how fast they would follow one another."""

    observation_space = spaces.Box(0.0, 1.0, (2,))
    action_space = spaces.Discrete(2)


def test_a_film_is_as_fast_as_the_environment_says_or_else_fifteen_steps_a_second(
    build_catch, monkeypatch
):
    gymnasium.register("Silent-v0", entry_point=Silent)
    # Forgotten with the test.
    monkeypatch.setitem(gymnasium.registry, "Silent-v0", gymnasium.registry.pop("Silent-v0"))
    for name, rate in (("CartPole-v1", 50), ("Silent-v0", 15)):
        assert GymConfig().build(name, 1, 0, CPU).spec.steps_per_second == rate
    assert build_catch().spec.steps_per_second == 15


@pytest.mark.atari
def test_the_console_shows_sixty_frames_a_second():
    for skip, rate in ((4, 15), (1, 60)):
        env = AtariConfig(frame_skip=skip).build("Pong", 1, 0, CPU)
        assert env.spec.steps_per_second == rate
        env.close()


@pytest.mark.parametrize(
    ("policy", "scores"),
    [
        ("policy.safetensors", "evaluation.json"),
        ("best.safetensors", "evaluation-best.json"),
        ("policy-MsPacman.safetensors", "evaluation-MsPacman.json"),
    ],
)
def test_every_policy_of_a_folder_has_its_own_scores(policy, scores):
    assert scores_beside(Path("run", policy)) == Path("run", scores)
