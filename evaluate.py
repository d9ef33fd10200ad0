"""Plays whole episodes with a trained policy; `python evaluate.py --help` explains."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agents.agent import ActorCritic
from agents.evaluation import Scores, play
from agents.files import write_json
from agents.seeding import generator
from agents.teacher import PolicyCard, find_policy, load_policy
from configs.build import Hardware, choose_hardware
from configs.cli import parse_evaluate
from configs.errors import UsageError
from configs.evaluate import EvaluateOptions
from envs import EnvFamilies, VecEnv, find
from envs.atari_scores import REFERENCES


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Loads the policy, rebuilds its environment, plays; returns what is to be written.

    Raises:
        UsageError: there is no such policy, or its environment is not to be had.
    """
    hardware = choose_hardware(options.device, options.precision, options.threads)
    torch.set_num_threads(hardware.threads)
    print(hardware.reason)
    try:
        agent, card = load_policy(Path(options.run), hardware.device, hardware.precision)
        env = environment(card, options, hardware)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{options.run} cannot be played: {error}") from error
    try:
        scores = play_all(env, agent, options)
    finally:
        env.close()
    low, high = scores.interval()
    return {
        "env": card.env,
        "protocol": env.spec.protocol,
        "trained_steps": card.steps,
        "episodes": options.episodes,
        "seed": options.seed,
        "precision": hardware.precision,
        "mean": scores.mean,
        "median": scores.median,
        "interval_95": [low, high],
        "human_normalised": human_normalised(card.env, scores.mean),
        "returns": scores.returns,
        "lengths": scores.lengths,
    }


def environment(card: PolicyCard, options: EvaluateOptions, hardware: Hardware) -> VecEnv:
    """Builds the environment that the policy was trained in."""
    name, family = find(card.env)
    config = replace(getattr(EnvFamilies(), family), **card.env_options)
    num_envs = min(options.num_envs, options.episodes)
    env: VecEnv = config.build(name, num_envs, options.seed, hardware.device)
    return env


def play_all(env: VecEnv, agent: ActorCritic, options: EvaluateOptions) -> Scores:
    """Plays the episodes on a stream of random numbers of their own."""
    return play(env, agent, options.episodes, generator(options.seed, "evaluation", env.device))


def human_normalised(game: str, score: float) -> float | None:
    """0 for a random player, 1 for a human; None where there is no reference."""
    return REFERENCES[game].normalised(score) if game in REFERENCES else None


def summary(result: dict[str, Any]) -> str:
    """The result in words, the protocol beside the score."""
    low, high = result["interval_95"]
    text = (
        f"{result['env']} ({result['protocol']} protocol), {result['episodes']} episodes after "
        f"{result['trained_steps']:,} steps: mean {result['mean']:.2f} "
        f"(95 % interval {low:.2f} to {high:.2f}), median {result['median']:.2f}"
    )
    if result["human_normalised"] is not None:
        text += f", human-normalised {100 * result['human_normalised']:.0f} %"
    return text + "."


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code; a mistake of the user's is one sentence."""
    try:
        options = parse_evaluate(arguments)
        result = evaluate(options)
        print(summary(result))
        beside = find_policy(Path(options.run)).parent / "evaluation.json"
        output = Path(options.output) if options.output else beside
        write_json(output, result)
        print(f"Written to {output}.")
    except UsageError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"evaluate.py: the scores cannot be written ({error.strerror or error}): choose "
            "another file by --output.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
