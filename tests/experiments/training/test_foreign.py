"""Policies of Stable-Baselines3 and CleanRL, whose networks are rebuilt here by plain modules."""

import io
import json
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from configs.errors import UsageError
from envs.atari.games import FULL_ACTIONS, FULL_SET
from envs.base import EnvSpec
from experiments.evaluation.players import load_player
from experiments.training.actions import NEVER
from experiments.training.foreign import is_foreign, load_foreign
from experiments.training.teachers import find_teacher
from tests.experiments.sessions import HARDWARE, complaint, session_of

CPU = torch.device("cpu")
A, WIDTH = 4, 16  # of actions and features; 256 = 64 x 2 x 2 numbers in the last map
ATARI = EnvSpec("Breakout", 2, (4, 44, 44), torch.uint8, A, "Breakout:minimal4", num_frames=4)
CATCH = EnvSpec("Catch", 2, (10, 5), torch.float32, 3, "Catch:left-stay-right")


def convolutions():
    return [
        *(nn.Conv2d(4, 32, 8, stride=4), nn.ReLU()),
        *(nn.Conv2d(32, 64, 4, stride=2), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()),
    ]


class CleanRL(nn.Module):
    """The agent of CleanRL's ppo_atari.py."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(*convolutions(), nn.Linear(256, WIDTH), nn.ReLU())
        self.actor = nn.Linear(WIDTH, A)
        self.critic = nn.Linear(WIDTH, 1)

    def forward(self, observation):
        return self.actor(self.network(observation / 255.0))


class CleanRLVectors(nn.Module):
    """The agent of CleanRL's ppo.py."""

    def __init__(self, inputs):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, 1))
        self.actor = nn.Sequential(
            *(nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))
        )

    def forward(self, observation):
        return self.actor(observation.flatten(1))


class NatureCNN(nn.Module):
    """The features extractor of Stable-Baselines3's CnnPolicy."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(*convolutions())
        self.linear = nn.Sequential(nn.Linear(256, WIDTH), nn.ReLU())

    def forward(self, observation):
        return self.linear(self.cnn(observation))


class CnnPolicy(nn.Module):
    """Stable-Baselines3's ActorCriticCnnPolicy, which names its features extractor three times."""

    def __init__(self, scale=255.0):
        super().__init__()
        self.scale = scale
        self.features_extractor = NatureCNN()
        self.pi_features_extractor = self.vf_features_extractor = self.features_extractor
        self.action_net, self.value_net = nn.Linear(WIDTH, A), nn.Linear(WIDTH, 1)

    def forward(self, observation):
        return self.action_net(self.pi_features_extractor(observation / self.scale))


class MlpExtractor(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.policy_net = nn.Sequential(
            *(nn.Linear(inputs, 9), nn.Tanh(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 7)),
            nn.Tanh(),
        )
        self.value_net = nn.Sequential(nn.Linear(inputs, 5), nn.Tanh())


class MlpPolicy(nn.Module):
    """Stable-Baselines3's ActorCriticPolicy."""

    def __init__(self, inputs):
        super().__init__()
        self.mlp_extractor = MlpExtractor(inputs)
        self.action_net, self.value_net = nn.Linear(7, 3), nn.Linear(5, 1)

    def forward(self, observation):
        return self.action_net(self.mlp_extractor.policy_net(observation.flatten(1)))


def data_of(shape, num_actions, **policy_kwargs):
    """What `model.save` says of spaces: readable JSON next to pickles, which are text in base64."""
    return {
        "policy_class": {":type:": "<class 'abc.ABCMeta'>", ":serialized:": "gAWV"},
        "policy_kwargs": policy_kwargs,
        "num_timesteps": 321,
        "observation_space": {
            ":type:": "<class 'gymnasium.spaces.box.Box'>",
            ":serialized:": "gAWV",
            "dtype": "uint8",
            "_shape": list(shape),
        },
        "action_space": {
            ":type:": "<class 'gymnasium.spaces.discrete.Discrete'>",
            ":serialized:": "gAWV",
            "n": str(num_actions),
            "start": "0",
        },
    }


def save_sb3(path, policy, data):
    weights = io.BytesIO()
    torch.save(policy.state_dict(), weights)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", json.dumps(data))
        file.writestr("pytorch_variables.pth", b"never read")
        file.writestr("policy.pth", weights.getvalue())
        file.writestr("_stable_baselines3_version", "2.9.2")
    return path


def save_clean(path, agent, **options):
    torch.save(agent.state_dict(), path, **options)
    return path


PEERS = {
    "CleanRL ppo_atari": (CleanRL, ATARI),
    "CleanRL ppo": (lambda: CleanRLVectors(50), CATCH),
    "Stable-Baselines3 CnnPolicy": (CnnPolicy, ATARI),
    "Stable-Baselines3 MlpPolicy": (lambda: MlpPolicy(50), CATCH),
}


def observations(spec):
    shape = (6, *spec.observation_shape)
    if spec.observation_dtype == torch.uint8:
        return torch.randint(256, shape, dtype=torch.uint8)
    return torch.randn(shape)


@pytest.mark.parametrize("name", PEERS)
def test_the_logits_are_those_of_the_other_library(name, tmp_path):
    build, spec = PEERS[name]
    peer = build()
    for parameter in peer.parameters():  # so that no two weights are alike
        nn.init.normal_(parameter, std=0.1)
    path = tmp_path / "policy.zip"
    if name.startswith("Clean"):
        save_clean(path, peer)
    else:
        save_sb3(path, peer, data_of(spec.observation_shape, spec.num_actions))
    agent, card, said = load_foreign(path, spec, CPU)
    seen = observations(spec)
    with torch.no_grad():
        assert_close(agent(seen[None]).logits[0], peer(seen.float()), atol=1e-5, rtol=1e-4)
    assert f"is a {name}: " in said
    assert f"{spec.num_actions} actions in the order of {spec.action_set}." in said
    assert (card.env, card.action_set, card.protocol) == (spec.name, spec.action_set, "raw")
    assert card.steps == (0 if name.startswith("Clean") else 321)
    assert torch.isnan(agent.value.weight).all()


def test_a_policy_that_read_raw_bytes_still_does(tmp_path):
    peer = CnnPolicy(scale=1.0)
    data = data_of(ATARI.observation_shape, A, normalize_images="False")
    agent, _, _ = load_foreign(save_sb3(tmp_path / "raw.zip", peer, data), ATARI, CPU)
    seen = observations(ATARI)
    with torch.no_grad():
        assert_close(agent(seen[None]).logits[0], peer(seen.float()), atol=1e-3, rtol=1e-4)


def test_a_state_dict_in_the_older_format_is_read_as_well(tmp_path):
    path = tmp_path / "policy.cleanrl_model"
    save_clean(path, CleanRLVectors(50), _use_new_zipfile_serialization=False)
    assert is_foreign(path)
    load_foreign(path, CATCH, CPU)


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_no_code_of_a_file_is_run(tmp_path):
    fired = tmp_path / "fired"
    whole = tmp_path / "agent.pt"
    torch.save({"actor": Bomb(fired)}, whole)
    with pytest.raises(ValueError, match=r"more than weights.*save agent\.state_dict\(\) alone"):
        load_foreign(whole, CATCH, CPU)
    data = data_of(CATCH.observation_shape, 3)
    data["policy_class"][":serialized:"] = pickle.dumps(Bomb(fired)).hex()
    load_foreign(save_sb3(tmp_path / "sb3.zip", MlpPolicy(50), data), CATCH, CPU)
    assert not fired.exists()


def altered(**changes):
    data = data_of(CATCH.observation_shape, 3)
    for name, entries in changes.items():
        data[name] = data[name] | entries
    return data


@pytest.mark.parametrize(
    ("policy", "data", "why"),
    [
        (MlpPolicy(50), altered(observation_space={"_shape": "[50]"}), r"sees \(50,\), but Catch"),
        (MlpPolicy(50), altered(action_space={"start": "1"}), "not discrete, from 0 on"),
        (
            MlpPolicy(50),
            altered(policy_kwargs={"activation_fn": "<class 'torch.nn.modules.activation.ReLU'>"}),
            "must be tanh",
        ),
        (MlpPolicy(50), {}, "says nothing of its observation_space"),
        (CnnPolicy(), altered(), "sees images in bytes, but Catch shows torch.float32"),
        (nn.Sequential(nn.Linear(50, 3)), altered(), r"\(0\.weight, 0\.bias, \.\.\.\) are laid"),
        (MlpPolicy(49), altered(), r"torso\.layers\.0\.weight are of \(9, 49\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(policy, data, why, tmp_path):
    path = save_sb3(tmp_path / "policy.zip", policy, data or {"policy_kwargs": {}})
    with pytest.raises(ValueError, match=rf"^[^\n]*cannot be read as another[^\n]*{why}[^\n]*$"):
        load_foreign(path, CATCH, CPU)


def test_another_number_of_actions_is_refused(tmp_path):
    agent = CleanRLVectors(50)
    agent.actor[4] = nn.Linear(6, 5)
    with pytest.raises(ValueError, match="it has 5 actions, but Catch has 3"):
        load_foreign(save_clean(tmp_path / "policy.pt", agent), CATCH, CPU)


@pytest.mark.atari
def test_a_policy_of_the_games_own_actions_teaches_all_18(collected, tmp_path, capsys):
    full = replace(ATARI, action_set=FULL_SET, num_actions=18)
    path = save_clean(tmp_path / "policy.pt", CleanRL())
    teacher = find_teacher(str(path), full, HARDWARE)
    assert "4 actions in the order of Breakout:minimal4" in capsys.readouterr().out
    seen = torch.randint(256, (*collected[0].observation.shape[:2], 4, 44, 44), dtype=torch.uint8)
    trajectory = replace(collected[0], observation=seen)
    logits = teacher(trajectory)
    expected = find_teacher(str(path), ATARI, HARDWARE)(trajectory)
    places = [FULL_ACTIONS.index(name) for name in ("NOOP", "FIRE", "RIGHT", "LEFT")]
    assert_close(logits[..., places], expected)
    assert (logits == NEVER).sum(-1).unique().tolist() == [14]
    # Pong has six actions of its own, so these four cannot be found among them.
    with pytest.raises(UsageError, match=r"has 4 actions, but Pong has 18.*the same act"):
        find_teacher(str(path), replace(full, name="Pong"), HARDWARE)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = save_sb3(tmp_path / "policy.zip", MlpPolicy(50), altered())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="cannot be read as another library's policy"):
        load_foreign(path, CATCH, CPU)


def test_a_foreign_policy_teaches_and_is_played(tmp_path, capsys):
    path = save_sb3(tmp_path / "policy.zip", MlpPolicy(50), altered())
    session_of(f"--aux distill --teacher {path}").update()
    assert "is a Stable-Baselines3 MlpPolicy: observations as they are" in capsys.readouterr().out
    teacher = find_teacher(str(path), CATCH, HARDWARE)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    player = load_player(str(path), HARDWARE, render=False, env="catch")
    assert player.build(2, 0, HARDWARE, render=False).spec.name == "Catch"
    with pytest.raises(UsageError, match="does not name its environment: add --env"):
        load_player(str(path), HARDWARE, render=False)
    said = complaint(f"--env.rows 4 --aux distill --teacher {path}")
    assert "it sees (10, 5), but Catch shows (4, 5)" in said
    assert said.endswith("; give a run or an exported policy of Catch.")


def test_a_policy_of_ours_names_its_own_environment(teacher):
    with pytest.raises(UsageError, match="names its own: drop it"):
        load_player(str(teacher), HARDWARE, render=False, env="Catch")
