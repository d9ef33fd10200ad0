"""The film of one episode: who plays, what is seen of it, and what is said about it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from agents.evaluation import Moment, watch
from agents.files import write_atomically
from agents.seeding import generator
from agents.video import Screen, find_encoder, points
from configs.errors import UsageError
from configs.evaluate import EvaluateOptions
from configs.hardware import Hardware
from configs.outputs import check_writable
from configs.players import load_player


class Episode:
    """The pictures of an episode, made while it is played; remembers how far it has come."""

    def __init__(self, moments: Iterator[Moment], title: str, most_steps: int) -> None:
        """Plays nothing yet.

        Args:
            moments: of the episode.
            title: what is played.
            most_steps: agent steps after which to stop.
        """
        self._moments, self._title, self._most_steps = moments, title, most_steps
        self.latest = next(moments)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Plays on."""
        height, width = self.latest.picture.shape[:2]
        screen = Screen(self._title, height, width)
        while True:
            now = self.latest
            yield screen.show(now.picture, now.score, now.step)
            if now.ended or now.step == self._most_steps:
                return
            self.latest = next(self._moments)

    def __str__(self) -> str:
        """What has happened so far."""
        steps, score = f"{self.latest.step:,}", points(self.latest.score)
        if self.latest.ended:
            return f"{self._title}: an episode of {steps} steps, score {score}"
        return f"{self._title}: the first {steps} steps of an episode, score {score} so far"


def check_film(options: EvaluateOptions) -> None:
    """Refuses a film that could not be written, before anything is played.

    Raises:
        UsageError: its kind is unknown, or its folder not to be written to.
    """
    path = Path(options.video)
    try:
        find_encoder(path)
    except ValueError as error:
        raise UsageError(f"--video {path}: {error}.") from error
    check_writable(path, "--video FILE")


def film(options: EvaluateOptions, hardware: Hardware) -> str:
    """Films one episode; says in a sentence what happens in it.

    Raises:
        UsageError: the policy cannot be played, or its environment not be drawn.
    """
    (run,) = options.runs
    player = load_player(run, hardware, render=True)
    env = player.build(1, options.seed, hardware, render=True)
    path = Path(options.video)
    try:
        moments = watch(env, player.agent, generator(options.seed, "film", env.device))
        try:
            episode = Episode(moments, env.spec.name, options.video_steps)
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"--video: {str(error).rstrip('.')}.") from error
        with player.agent.frozen():
            content = find_encoder(path)(episode, env.spec.steps_per_second)
    finally:
        env.close()
    write_atomically(path, content)
    return f"{episode}."
