from dataclasses import replace

import numpy as np
import pytest

from agents.rollout.evaluation import Moment
from configs.errors import UsageError
from configs.programs import EvaluateOptions
from envs.base import PictureError
from experiments.evaluation.film import BAR, Episode, check_film


def moments(length, ended=True, score=0.5):
    """An episode whose pictures are all of one colour, that of the step."""
    for step in range(length + 1):
        picture = np.full((4, 6, 3), step, np.uint8)
        yield Moment(picture, score * step, step, ended=ended and step == length)


def levels(pictures):
    """Which moments are shown, by the colour in the middle of each picture."""
    return [int(picture[BAR + 20, picture.shape[1] // 2, 0]) for picture in pictures]


def test_an_episode_is_shown_from_the_first_picture_to_its_end():
    episode = Episode(moments(3), "Catch", most_steps=10)
    assert levels(episode) == [0, 1, 2, 3]
    assert str(episode) == "Catch: an episode of 3 steps, score 1.50"


def test_a_long_episode_is_cut():
    episode = Episode(moments(3000, score=2.0), "Catch", most_steps=2)
    assert levels(episode) == [0, 1, 2]
    assert str(episode) == "Catch: the first 2 steps of an episode, score 4 so far"


def test_an_episode_that_ends_where_it_would_be_cut_is_whole():
    episode = Episode(moments(2), "Catch", most_steps=2)
    assert levels(episode) == [0, 1, 2]
    assert str(episode) == "Catch: an episode of 2 steps, score 1"


def test_an_episode_is_played_while_it_is_shown():
    playing = moments(5)
    episode = iter(Episode(playing, "Catch", most_steps=10))
    next(episode)
    assert next(playing).step == 1


def test_pictures_that_change_in_size_are_refused():
    first, *others = moments(2)
    grown = [replace(moment, picture=np.repeat(moment.picture, 2, axis=0)) for moment in others]
    episode = Episode(iter([first, *grown]), "Toy", most_steps=10)
    with pytest.raises(PictureError, match="Toy cannot be filmed: its pictures change in size"):
        list(episode)


def test_the_caption_follows_the_episode():
    bars = [picture[:BAR] for picture in Episode(moments(2), "Catch", most_steps=10)]
    assert (bars[0] != bars[1]).any()
    assert (bars[1] != bars[2]).any()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("film.avi", "--video film.avi: a film's name ends in .mp4 or .gif."),
        ("film", "--video film: a film's name ends in .mp4 or .gif."),
        ("no/film.gif", "no/film.gif cannot be written (No such file or directory): choose"),
    ],
)
def test_a_film_that_could_not_be_written_is_refused_first(file, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        check_film(EvaluateOptions(("runs/x",), video=file))
    assert str(refused.value).startswith(said)
    check_film(EvaluateOptions(("runs/x",), video="film.gif"))
    assert not list(tmp_path.iterdir())
