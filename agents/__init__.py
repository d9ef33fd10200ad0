"""Actor-critic agents, auxiliary heads, gates, and the learner that brings them together.

The names below are the public interface; they are imported when they are first used, so that
`agents.gates` needs nothing but PyTorch and jaxtyping. An agent is a network (`ActorCritic`) that
a `Collector` lets play, T steps in B environments at a time (`Trajectory`). The `Learner` turns a
trajectory into optimizer steps: the algorithm's main loss and the losses of all heads go backward
through the gate. `experiments.training` puts these parts together from a command line.

    >>> import torch
    >>> from agents import A2CConfig, ActorCritic, Collector, Learner, LearnerConfig, make
    >>> from agents.networks.torsos import MlpConfig
    >>> from envs.catch import CatchConfig
    >>> env = CatchConfig().build("Catch", num_envs=4, seed=1, device=torch.device("cpu"))
    >>> torso = MlpConfig().build(env.spec.observation_shape, env.spec.num_symbols)
    >>> agent = ActorCritic(torso, env.spec.num_actions)
    >>> collector = Collector(env, agent, torch.Generator().manual_seed(1), unroll_length=8)
    >>> config = LearnerConfig(1e-3, 0.0, total_steps=1_000, max_gradient_norm=0.5)
    >>> learner = Learner(agent, A2CConfig().build(discount=0.99), {}, make("sum"), config)
    >>> metrics = learner.update(collector.collect())
    >>> learner.steps, "policy_loss" in metrics
    (32, True)
"""

import importlib
from typing import Any

_HOMES = {
    "A2CConfig": "agents.algorithms",
    "Algorithm": "agents.algorithms",
    "PPGConfig": "agents.algorithms",
    "PPOConfig": "agents.algorithms",
    "Gate": "agents.gates",
    "Gramian": "agents.gates",
    "Judgement": "agents.gates",
    "gated_backward": "agents.gates",
    "make": "agents.gates",
    "AuxiliaryHead": "agents.heads",
    "HeadContext": "agents.heads",
    "HeadLoss": "agents.heads",
    "Heads": "agents.heads",
    "GatingConfig": "agents.learning.gating",
    "Learner": "agents.learning.learner",
    "LearnerConfig": "agents.learning.learner",
    "ActorCritic": "agents.networks.actor_critic",
    "Collector": "agents.rollout.collector",
    "Teacher": "agents.teachers",
    "load_policy": "agents.teachers",
    "load_teacher": "agents.teachers",
    "AgentOutput": "agents.trajectory",
    "Targets": "agents.trajectory",
    "Trajectory": "agents.trajectory",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'agents' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
