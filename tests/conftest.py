"""Fixtures that any test may ask for."""

import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from agents.gates import make
from agents.learning.learner import Learner
from agents.networks.actor_critic import ActorCritic
from agents.networks.recurrent import GRUConfig
from agents.networks.torsos import MlpConfig
from envs.catch import CatchConfig
from tests.agents.updating import A2C, CONFIG, collect


@pytest.fixture(autouse=True)
def _alone():
    """Gives every test one thread and the same global random numbers, and takes them back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def never_waits():
    """Makes blocks within which it is an error to wait for the GPU."""

    @contextmanager
    def never_waits():
        with warnings.catch_warnings():
            # PyTorch says, once per process, that the mode is a prototype.
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return never_waits


@pytest.fixture
def build_catch():
    """Builds Catch for B = 2; three rows by default, so that an episode takes two steps."""

    def build_catch(num_envs=2, seed=0, device="cpu", **options):
        config = CatchConfig(**{"rows": 3} | options)
        return config.build("Catch", num_envs, seed, torch.device(device))

    return build_catch


@pytest.fixture
def catch(build_catch):
    return build_catch()


@pytest.fixture
def build_agent():
    """Builds a small agent (F = 5) for an environment; one seed, one set of weights.

    With `memory`, there is a recurrent core of so many units, which may read the last action.
    """

    def build_agent(spec, seed=0, precision="fp32", memory=0, last_action=False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torso = MlpConfig(widths=(7, 5)).build(spec.observation_shape)
            core = None
            if memory:
                config = GRUConfig(memory, last_action)
                core = config.build(torso.num_features, spec.num_actions)
            return ActorCritic(torso, spec.num_actions, precision, core)

    return build_agent


@pytest.fixture
def small_agent(build_agent, catch):
    return build_agent(catch.spec)


@pytest.fixture
def opinionated():
    """Gives an agent's policy large weights: at the start it is nearly uniform everywhere."""

    def opinionated(agent):
        with torch.no_grad():
            agent.policy.weight.normal_()
        return agent

    return opinionated


@pytest.fixture
def build_learner(build_agent, catch):
    """Builds a learner of Catch around an agent that is always the same."""

    def build_learner(
        heads=None, gate="cosine", algorithm=A2C, memory=0, device="cpu", seed=0, **config
    ):
        agent = build_agent(catch.spec, seed, memory=memory).to(device)
        heads = heads or {}
        for head in heads.values():
            head.to(device)
        made = make(gate) if isinstance(gate, str) else gate
        return Learner(agent, algorithm, heads, made.to(device), replace(CONFIG, **config))

    return build_learner


@pytest.fixture
def collected(build_catch, build_agent):
    """Six trajectories of Catch, played by an agent that does not learn."""
    env = build_catch()
    return collect(env, build_agent(env.spec), 6)
