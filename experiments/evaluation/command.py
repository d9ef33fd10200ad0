"""The program `evaluate.py`: plays whole episodes with policies, prints and writes their scores."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from agents.logs.tracking import continued
from agents.networks.actor_critic import ActorCritic, NotFiniteError
from agents.rollout.evaluation import EndlessEpisodeError, Scores, play
from agents.runtime.checkpoint import remove_leftovers
from agents.runtime.random import generator
from configs.cli import parse_evaluate
from configs.errors import UsageError, blame, naming
from configs.programs import EvaluateOptions
from envs import VecEnv
from envs.base import EnvironmentFailedError, is_out_of_memory
from experiments.evaluation.film import check_film, film
from experiments.evaluation.players import (
    Player,
    as_trained,
    check_writable,
    destination,
    load_player,
    policies_of,
)
from experiments.evaluation.scoreboard import Result, Scoreboard, write_all, write_one
from experiments.training.hardware import Hardware, choose_hardware

PROGRESS_SECONDS = 10.0
"""Between two lines that say how far an evaluation is."""


def evaluate(options: EvaluateOptions) -> list[Result]:
    """Plays with every policy and writes its scores.

    Raises:
        UsageError: a policy cannot be played, or its scores could not be written; both are
            checked before anything is played.
    """
    for run in options.runs:
        path = destination(run, options)
        if path is not None:
            check_writable(path, "--output FILE")
            remove_leftovers(path.parent, path.name.__eq__)
    hardware = prepare(options)
    players = [
        load_player(
            run,
            as_trained(run, options, hardware),
            render=False,
            policy=options.policy,
            env=options.env,
        )
        for run in options.runs
    ]
    results: list[Result] = []
    for player in players:
        if len(players) > 1:
            print(f"Playing {player.run} ({len(results) + 1} of {len(players)}).", flush=True)
        results.append(score(player, options, hardware))
        # After every policy, so that an interrupt loses only the one that is being played.
        write(results, options)
        with continued(Path(player.run), print) as trackers:
            mean = results[-1].scores.mean
            trackers.log(results[-1].trained_steps, {"evaluation/return": mean})
    return results


def prepare(options: EvaluateOptions) -> Hardware:
    """Chooses the hardware and prints the choice."""
    hardware = choose_hardware(options.device, options.precision, options.threads, playing=True)
    torch.set_num_threads(hardware.threads)
    print(hardware.reason, flush=True)
    return hardware


def score(player: Player, options: EvaluateOptions, hardware: Hardware) -> Result:
    """Plays the episodes of one policy.

    Args:
        player: the policy.
        options: number of episodes and environments, seed.
        hardware: what the policy computes on.

    Returns:
        Its scores, with how it was played.

    Raises:
        UsageError: the environments do not fit into memory, or the policy is not finite.
    """
    num_envs = min(options.num_envs, options.episodes)
    with naming(options):
        env = player.build(num_envs, options.seed, hardware, render=False)
    try:
        scores = play_all(env, player.agent, options)
    except NotFiniteError as error:
        raise UsageError(f"{player.run} cannot be played: {error}.") from error
    finally:
        env.close()
    return Result(
        run=player.run,
        env=env.spec.name,
        protocol=env.spec.protocol,
        trained_steps=player.card.steps,
        seed=options.seed,
        precision=player.agent.precision,
        scores=scores,
    )


def play_all(env: VecEnv, agent: ActorCritic, options: EvaluateOptions) -> Scores:
    """Plays the episodes; actions draw the same random numbers for every policy.

    Args:
        env: the policy's environment.
        agent: the policy.
        options: number of episodes, their longest length, and seed.

    Raises:
        UsageError: an episode does not end.
    """
    actions = generator(options.seed, "evaluation", env.device)
    said = time.monotonic()

    def tell(done: int, steps: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PROGRESS_SECONDS:
            said = time.monotonic()
            print(f"{done:,} of {options.episodes:,} episodes, {steps:,} steps.", flush=True)

    with agent.frozen():
        try:
            return play(
                env,
                agent,
                options.episodes,
                actions,
                max_episode_steps=options.max_episode_steps,
                tell=tell,
            )
        except EndlessEpisodeError as error:
            raise UsageError(
                f"{error}: give more --max-episode-steps, or train with a limit of the environment "
                "(--env.max-episode-steps)."
            ) from error


def write(results: Sequence[Result], options: EvaluateOptions) -> None:
    """Writes the results so far."""
    path = destination(results[-1].run, options)
    if path is None:
        return
    if options.output and len(options.runs) > 1:
        write_all(path, results)
    else:
        write_one(path, results[-1])


def show(results: Sequence[Result], options: EvaluateOptions) -> None:
    """Prints a sentence, or a table of several policies, and where the scores were written."""
    if len(results) == 1:
        print(results[0].summary())
    else:
        Console().print(Scoreboard(results))
    places = {result.run: destination(result.run, options) for result in results}
    for path in dict.fromkeys(places.values()):
        if path is not None:
            print(f"Written to {path}.")
    unwritten = [run for run, path in places.items() if path is None]
    if unwritten:
        print(f"Not written, since no run's folder: {', '.join(unwritten)}; --output FILE would.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `evaluate.py`; a user's mistake prints one sentence.

    Args:
        arguments: of the command line, without the name of the program; by default those of
            this process.

    Returns:
        The exit code.
    """
    try:
        options = parse_evaluate(sys.argv[1:] if arguments is None else arguments)
        runs = tuple(policy for run in options.runs for policy in policies_of(run))
        if options.video:
            check_film(options)
            print(film(options, prepare(options)))
            print(f"Written to {options.video}.")
        else:
            options = replace(options, runs=runs)
            show(evaluate(options), options)
    except UsageError as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        flag = "--video" if options.video else "--output"
        print(
            f"evaluate.py: the file cannot be written ({error.strerror or error}): choose another "
            f"one by {flag} FILE.",
            file=sys.stderr,
        )
        return 2
    except EnvironmentFailedError as error:
        blame("evaluate.py", error)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(
            "evaluate.py: the device has too little memory: use fewer --num-envs, or another "
            "--device.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
