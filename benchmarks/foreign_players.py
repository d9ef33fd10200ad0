"""Another library's policy: made, saved and scored by that library, as a separate process.

    python benchmarks/foreign_players.py sb3-atari Breakout/strong --output runs/foreign/strong

It runs in the peers' virtual environment; `foreign_teachers.py` calls it and compares the scores.
The output folder gets the policy, saved by its library, and `scores.json`.  This holds the scores
of the library's own network and of the same file converted by auxgate, both played by the library's
own code in its own environments, and how far the probabilities of actions are apart.

On Atari the policy is a shipped teacher, whose torso and policy have the layers of the peers'
Nature network; its value is left as drawn.  On CartPole the peer trains it.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

import envs
from agents.networks.actor_critic import ActorCritic
from agents.rollout.evaluation import quotas
from agents.runtime.random import generator
from agents.teachers import load_policy
from benchmarks import images
from benchmarks.cleanrl import PPO_ATARI, PPO_ENVPOOL
from benchmarks.learners import stable_baselines
from benchmarks.learning_tasks import TASKS
from experiments.evaluation.players import load_player
from experiments.training.hardware import Hardware
from experiments.training.teachers import locate_policy

CPU = torch.device("cpu")
NUM_ENVS = 8
COMPARED = 200
"""Steps of all environments at which probabilities are compared."""

Observation = Shaped[np.ndarray, " B *shape"]
Actions = Int[np.ndarray, " B"]
Probabilities = Callable[[Observation], Float[Tensor, "B A"]]
"""What a network says of the actions of every environment."""


class Converted:
    """auxgate's network of another library's file, with the methods that the library calls."""

    def __init__(self, path: Path, env: str, seed: int, theirs: Probabilities) -> None:
        """Reads the file as `evaluate.py` does.

        Args:
            path: of the policy.
            env: auxgate's name of its environment.
            seed: of the actions.
            theirs: what the library's own network says, to compare with.
        """
        hardware = Hardware(CPU, "fp32", 1, "")
        self.agent: ActorCritic = load_player(str(path), hardware, render=False, env=env).agent
        self.largest_difference = 0.0
        self._generator = generator(seed, "evaluation", CPU)
        self._theirs, self._left = theirs, COMPARED

    @torch.no_grad()
    def act(self, observation: Observation) -> Actions:
        """Samples an action for every environment."""
        seen = torch.as_tensor(observation)
        if self._left:
            self._left -= 1
            ours = self.agent.logits(seen[None])[0].softmax(-1)
            apart = float((ours - self._theirs(observation)).abs().max())
            self.largest_difference = max(self.largest_difference, apart)
        actions: Actions = self.agent.act(seen, self._generator).action.numpy()
        return actions

    def predict(self, observation: Observation, **_: Any) -> tuple[Actions, None]:
        """What Stable-Baselines3 asks of a model."""
        return self.act(observation), None


@dataclass(frozen=True)
class Played:
    """What is written of a side."""

    env: str
    """As its library calls it."""
    theirs: Sequence[float]
    ours: Sequence[float]
    largest_difference: float


def copy(teacher: str, layers: Sequence[nn.Module]) -> None:
    """Writes a shipped teacher's torso and policy into another library's layers, first to last."""
    agent, _ = load_policy(locate_policy(teacher), CPU)
    torso: Any = agent.torso
    ours = [*(torso.convolutions[index] for index in (0, 2, 4)), torso.dense, agent.policy]
    for mine, layer in zip(ours, layers, strict=True):
        layer.load_state_dict(mine.state_dict())


def sb3(model: Any, make_env: Callable[[], Any], name: str, given: argparse.Namespace) -> Played:
    """Saves a model and scores it by `evaluate_policy`, with actions sampled.

    Args:
        model: of Stable-Baselines3.
        make_env: builds its environments; they are the same every time.
        name: of the environment, here.
        given: of the command line.
    """
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy

    path = given.output / "policy.zip"
    model.save(path)
    model = PPO.load(path, device="cpu")
    model.set_random_seed(given.seed)

    def probabilities(observation: Observation) -> Float[Tensor, "B A"]:
        seen, _ = model.policy.obs_to_tensor(observation)
        found: Tensor = model.policy.get_distribution(seen).distribution.probs
        return found

    def score(player: Any) -> tuple[str, list[float]]:
        env = make_env()
        called = env.get_attr("spec")[0].id
        returns, _ = evaluate_policy(
            player, env, given.episodes, deterministic=False, return_episode_rewards=True
        )
        env.close()
        return called, [float(each) for each in returns]

    ours = Converted(path, name, given.seed, probabilities)
    (called, theirs), (_, converted) = score(model), score(ours)
    return Played(called, theirs, converted, ours.largest_difference)


def sb3_atari(given: argparse.Namespace) -> Played:
    """A `CnnPolicy` in `make_atari_env` with four stacked frames."""
    from stable_baselines3 import PPO

    def make_env() -> Any:
        return images.atari("Breakout", NUM_ENVS, given.seed)

    model = PPO("CnnPolicy", make_env(), seed=given.seed, device="cpu")
    features: Any = model.policy.features_extractor
    convolutions = [features.cnn[index] for index in (0, 2, 4)]
    copy(given.policy, [*convolutions, features.linear[0], model.policy.action_net])
    return sb3(model, make_env, "Breakout", given)


def sb3_cartpole(given: argparse.Namespace) -> Played:
    """An `MlpPolicy` that is trained here for the steps that `policy` gives."""
    from stable_baselines3.common.env_util import make_vec_env

    task = replace(TASKS["CartPole-v1"], steps=int(given.policy))
    model = stable_baselines("sb3-ppo", task, given.seed, io.StringIO())
    return sb3(
        model,
        lambda: make_vec_env("CartPole-v1", n_envs=NUM_ENVS, seed=given.seed),
        "CartPole-v1",
        given,
    )


Step = Callable[[Actions], tuple[Observation, Sequence[float | None]]]
"""Of CleanRL's environments: observations, and the score of each that has finished its game."""


def cleanrl_atari(given: argparse.Namespace) -> Played:
    """The agent of `ppo_atari.py` in its environments, which `make_env` there wraps."""
    import ale_py

    gymnasium.register_envs(ale_py)
    sys.path.insert(0, str(given.cleanrl))
    source = PPO_ATARI.load(given.cleanrl)
    script = PPO_ATARI.execute(source, __name__="ppo_atari")

    def make() -> tuple[Any, Observation, Step]:
        many = [script["make_env"]("BreakoutNoFrameskip-v4", i, False, "") for i in range(NUM_ENVS)]
        env = gymnasium.vector.SyncVectorEnv(many)
        observation, _ = env.reset(seed=given.seed)

        def step(actions: Actions) -> tuple[Observation, Sequence[float | None]]:
            seen, _, _, _, info = env.step(actions)
            over = info.get("_episode", np.zeros(NUM_ENVS, bool))
            return seen, [
                float(info["episode"]["r"][i]) if over[i] else None for i in range(len(over))
            ]

        return env, observation, step

    return _cleanrl("BreakoutNoFrameskip-v4", script["Agent"], make, given)


def cleanrl_envpool(given: argparse.Namespace) -> Played:
    """The agent of `ppo_atari_envpool.py` in its environments, ported to current packages."""
    import envpool

    source = PPO_ENVPOOL.load(given.cleanrl)
    script = PPO_ENVPOOL.execute(source, __name__="ppo_atari_envpool")

    def make() -> tuple[Any, Observation, Step]:
        pool = envpool.make(
            "Breakout-v5",
            env_type="gymnasium",
            num_envs=NUM_ENVS,
            episodic_life=True,
            reward_clip=True,
            seed=given.seed,
        )
        env = script["RecordEpisodeStatistics"](pool)

        def step(actions: Actions) -> tuple[Observation, Sequence[float | None]]:
            seen, _, dones, info = env.step(actions)
            over = dones & (info["lives"] == 0)
            return seen, [float(info["r"][i]) if over[i] else None for i in range(len(over))]

        return env, env.reset(), step

    return _cleanrl("Breakout-v5", script["Agent"], make, given)


def _cleanrl(
    called: str,
    agent_of: Callable[[Any], Any],
    make: Callable[[], tuple[Any, Observation, Step]],
    given: argparse.Namespace,
) -> Played:
    """Saves an agent's state dict and plays as the scripts do."""
    path = given.output / "policy.pt"
    actions = gymnasium.spaces.Discrete(4)
    agent = agent_of(SimpleNamespace(single_action_space=actions))
    copy(given.policy, [*(agent.network[index] for index in (0, 2, 4, 7)), agent.actor])
    torch.save(agent.state_dict(), path)
    agent.load_state_dict(torch.load(path, weights_only=True))

    @torch.no_grad()
    def act(observation: Observation) -> Actions:
        chosen: Actions = agent.get_action_and_value(torch.Tensor(observation))[0].numpy()
        return chosen

    def probabilities(observation: Observation) -> Float[Tensor, "B A"]:
        logits: Tensor = agent.actor(agent.network(torch.Tensor(observation) / 255.0))
        return logits.softmax(-1)

    def score(act: Callable[[Observation], Actions]) -> list[float]:
        env, observation, step = make()
        left, returns = quotas(given.episodes, NUM_ENVS), []
        while any(left):
            observation, finished = step(act(observation))
            for index, value in enumerate(finished):
                if value is not None and left[index]:
                    left[index] -= 1
                    returns.append(value)
        env.close()
        return returns

    torch.manual_seed(given.seed)
    ours = Converted(path, "Breakout", given.seed, probabilities)
    return Played(called, score(act), score(ours.act), ours.largest_difference)


SIDES = {
    "sb3-cartpole": sb3_cartpole,
    "sb3-atari": sb3_atari,
    "cleanrl-atari": cleanrl_atari,
    "cleanrl-envpool": cleanrl_envpool,
}


def main(arguments: Sequence[str]) -> int:
    """Makes and scores one policy; returns the exit code."""
    parser = argparse.ArgumentParser(
        "foreign_players.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("policy", help="a shipped teacher; on CartPole, agent steps of training")
    parser.add_argument("--output", type=Path, required=True, help="a folder to write into")
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cleanrl", type=Path, default=Path(), help="a clone of CleanRL")
    given = parser.parse_args(arguments)
    given.cleanrl = given.cleanrl.resolve()
    torch.set_num_threads(1)
    envs.registered()
    given.output.mkdir(parents=True, exist_ok=True)
    try:
        played = SIDES[given.side](given)
    except ValueError as error:
        print(f"foreign_players.py: {error}", file=sys.stderr)
        return 2
    text = json.dumps(played.__dict__)
    (given.output / "scores.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
