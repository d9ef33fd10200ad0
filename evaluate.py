"""Plays whole episodes with trained policies; `python evaluate.py --help` explains."""

import sys
from collections.abc import Sequence

import torch
from rich.console import Console

from agents.networks.actor_critic import ActorCritic
from agents.rollout.evaluation import Scores, play
from agents.runtime.random import generator
from configs.cli import parse_evaluate
from configs.errors import UsageError
from configs.evaluation import EvaluateOptions
from envs import VecEnv
from experiments.evaluation.film import check_film, film
from experiments.evaluation.players import Player, check_writable, destination, load_player
from experiments.evaluation.scoreboard import Result, Scoreboard, write_all, write_one
from experiments.training.hardware import Hardware, choose_hardware


def evaluate(options: EvaluateOptions) -> list[Result]:
    """Plays with every policy and writes its scores.

    Raises:
        UsageError: a policy cannot be played, or its scores could not be written: that is
            found out before anything is played.
    """
    for run in options.runs:
        path = destination(run, options)
        if path is not None:
            check_writable(path, "--output FILE")
    hardware = prepare(options)
    players = [load_player(run, hardware, render=False) for run in options.runs]
    results: list[Result] = []
    for player in players:
        if len(players) > 1:
            print(f"Playing {player.run} ({len(results) + 1} of {len(players)}).", flush=True)
        results.append(score(player, options, hardware))
        # Each as soon as it is there: an interrupt loses no other.
        write(results, options)
    return results


def prepare(options: EvaluateOptions) -> Hardware:
    """Picks what to compute on, and says so."""
    hardware = choose_hardware(options.device, options.precision, options.threads, playing=True)
    torch.set_num_threads(hardware.threads)
    print(hardware.reason, flush=True)
    return hardware


def score(player: Player, options: EvaluateOptions, hardware: Hardware) -> Result:
    """Plays the episodes of one policy."""
    num_envs = min(options.num_envs, options.episodes)
    env = player.build(num_envs, options.seed, hardware, render=False)
    try:
        scores = play_all(env, player.agent, options)
    finally:
        env.close()
    return Result(
        run=player.run,
        env=env.spec.name,
        protocol=env.spec.protocol,
        trained_steps=player.card.steps,
        seed=options.seed,
        precision=hardware.precision,
        scores=scores,
    )


def play_all(env: VecEnv, agent: ActorCritic, options: EvaluateOptions) -> Scores:
    """Plays the episodes on a stream of random numbers of their own, the same for every run."""
    actions = generator(options.seed, "evaluation", env.device)
    with agent.frozen():
        return play(env, agent, options.episodes, actions)


def write(results: Sequence[Result], options: EvaluateOptions) -> None:
    """Writes what has been scored so far."""
    path = destination(results[-1].run, options)
    if path is None:
        return
    if options.output and len(options.runs) > 1:
        write_all(path, results)
    else:
        write_one(path, results[-1])


def show(results: Sequence[Result], options: EvaluateOptions) -> None:
    """Prints a sentence, or a table of several, and where the scores are."""
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


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code; a mistake of the user's is one sentence."""
    try:
        options = parse_evaluate(arguments)
        if options.video:
            check_film(options)
            print(film(options, prepare(options)))
            print(f"Written to {options.video}.")
        else:
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
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
