import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments.evaluation import film as video
from experiments.evaluation.film import BACKGROUND, BAR, Screen, find_encoder, gif, mp4, points


def noise(height=6, width=8, colours=256, seed=0):
    """A random picture of so many levels of grey and as many of red."""
    levels = np.random.default_rng(seed).integers(colours, size=(height, width, 2), dtype=np.uint8)
    return np.concatenate([levels, levels[..., :1]], -1)


def read_gif(content):
    """Pictures, and how long each is shown in milliseconds."""
    pictures, durations = [], []
    with Image.open(io.BytesIO(content)) as film:
        for index in range(film.n_frames):
            film.seek(index)
            pictures.append(np.asarray(film.convert("RGB")))
            durations.append(film.info["duration"])
        assert film.info["loop"] == 0  # for ever
    return pictures, durations


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (210, 160, (36 + 3 * 210, 3 * 160)),  # Atari: three times as high is 630, at most 640
        (160, 80, (36 + 4 * 160, 320)),
        (400, 600, (36 + 400, 600)),  # CartPole: twice would be 800
        (16, 2, (36 + 40 * 16, 320)),  # 80 wide: a border left and right
        (20, 640, (36 + 2 * 20, 1280)),  # thrice would be 1920 wide
        (999, 1301, (36 + 1000, 1302)),  # never smaller; even for H.264
    ],
)
def test_pictures_are_enlarged_to_a_readable_size(height, width, expected):
    shown = Screen("Game", height, width).show(np.zeros((height, width, 3), np.uint8), 0.0, 0)
    assert shown.shape == (*expected, 3)
    assert shown.dtype == np.uint8


def test_every_pixel_becomes_a_square_in_the_middle_below_the_caption():
    picture = noise(100, 40, seed=1)
    shown = Screen("Game", 100, 40).show(picture, 0.0, 0)
    # Six times: 240 wide of 320, so 40 columns of border on each side.
    np.testing.assert_array_equal(shown[BAR:, 40:-40], picture.repeat(6, axis=0).repeat(6, axis=1))
    assert (shown[BAR:, :40] == BACKGROUND).all()
    assert (shown[BAR:, -40:] == BACKGROUND).all()


def caption(title="Game", score=0.0, step=0, width=160):
    shown = Screen(title, 210, width).show(np.zeros((210, width, 3), np.uint8), score, step)
    return shown[:BAR]


def inked(bar):
    """The columns in which something is written."""
    return np.flatnonzero((bar != BACKGROUND).any((0, 2)))


def test_title_score_and_step_are_written_and_stay_in_their_places():
    def changed(**other):
        return np.flatnonzero((caption() != caption(**other)).any((0, 2)))

    title, score, step = changed(title="Tame"), changed(score=1.0), changed(step=1)
    assert 0 < title.max() < score.min()
    assert score.max() < step.min()
    # Numbers that grow move nothing else.
    assert changed(score=-8_888_888.0).max() < inked(caption())[-1]
    assert changed(score=-8_888_888.0).min() >= score.min() - 15
    assert changed(step=888_888).min() >= step.min()


def test_nothing_is_written_beyond_the_border_or_over_something_else():
    longest = {"score": -8_888_888.0, "step": 888_888}
    for title, width in (("MontezumaRevenge", 160), ("x", 2), ("An-Id-Of-Somebody-Else-v0" * 9, 2)):
        ink = inked(caption(title, **longest, width=width))
        shown = max(3 * width, 320)
        assert ink[0] >= 5
        assert ink[-1] < shown - 5
        gaps = np.diff(ink)
        assert (gaps >= 15).sum() == 2  # between title and score, between score and step


def test_a_title_without_room_is_cut():
    np.testing.assert_array_equal(caption("M" * 200), caption("M" * 100))
    assert len(inked(caption("M" * 200))) > len(inked(caption("M")))


@pytest.mark.parametrize(
    ("score", "said"),
    [(0.0, "0"), (-20.0, "-20"), (12345.0, "12,345"), (0.955, "0.95"), (1e7, "10,000,000")],
)
def test_scores_have_decimals_only_where_they_need_them(score, said):
    assert points(score) == said


def test_a_gif_keeps_up_to_255_colours_as_they_are():
    pictures = [noise(30, 30, 15, seed) for seed in range(3)]  # at most 15 * 15 = 225 colours
    shown, _ = read_gif(gif(iter(pictures), 10.0))
    np.testing.assert_array_equal(shown, pictures)


def test_a_gif_of_more_colours_comes_close():
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    picture = np.stack([ramp, ramp.T, 255 - ramp], -1)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
    (shown,), _ = read_gif(gif([picture], 10.0))
    assert np.abs(shown.astype(int) - picture).mean() < 8


def test_a_gif_runs_at_true_speed_and_holds_the_last_picture():
    # 15 a second are 6.67 hundredths of a second each: 7, 6, 7, 7, 6, 7, ... in whole ones.
    _, durations = read_gif(gif((noise(seed=seed) for seed in range(7)), 15.0))
    assert durations == [70, 60, 70, 70, 60, 70, 1000]


def test_a_faster_film_is_thinned_to_what_a_gif_can_show():
    pictures = [noise(colours=16, seed=seed) for seed in range(12)]
    shown, durations = read_gif(gif(iter(pictures), 50.0))
    # Every fourth is 12.5 a second; and the last one, two fiftieths after picture 8.
    # 0, 8, 16 and 22 hundredths; half a hundredth goes to the even one.
    np.testing.assert_array_equal(shown, [pictures[index] for index in (0, 4, 8, 11)])
    assert durations == [80, 80, 60, 1000]


def test_a_picture_like_the_one_before_is_shown_longer():
    first, second = noise(colours=16), noise(colours=16, seed=1)
    shown, durations = read_gif(gif([first, first, first, second, second], 10.0))
    np.testing.assert_array_equal(shown, [first, second])
    # The last picture is held for a second from when it is shown last.
    assert durations == [300, 1100]


def test_only_what_has_changed_is_stored():
    still = noise(60, 60)
    moved = still.copy()
    moved[10:12, 20:23] += 1
    with Image.open(io.BytesIO(gif([still, moved], 10.0))) as film:
        film.seek(1)
        assert film.dispose_extent == (20, 10, 23, 12)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=8),
    st.floats(1, 15, allow_nan=False),
)
def test_whatever_is_filmed_can_be_read_from_the_gif(choices, rate):
    kinds = [noise(colours=16, seed=seed) for seed in range(3)]
    shown, durations = read_gif(gif((kinds[choice] for choice in choices), rate))
    runs = [c for i, c in enumerate(choices) if i == 0 or c != choices[i - 1]]
    np.testing.assert_array_equal(shown, [kinds[choice] for choice in runs])
    # The last picture begins at (n - 1) / rate, to a hundredth, and stays a second.
    assert sum(durations) == pytest.approx(1000 * ((len(choices) - 1) / rate + 1), abs=5.01)


@pytest.mark.parametrize("rate", [15.0, 12.5, 50.0])
def test_an_mp4_has_every_picture_at_true_speed_and_holds_the_last(rate):
    # Blocks of colour, since H.264 is lossy.
    pictures = [np.full((36, 64, 3), (40 * i, 200 - 40 * i, 90), np.uint8) for i in range(5)]
    with av.open(io.BytesIO(mp4(iter(pictures), rate))) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == rate
        frames = list(film.decode(video=0))
    assert [round(frame.time * rate) for frame in frames] == list(range(5 + round(rate)))
    shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in frames]
    held = [*pictures, *[pictures[-1]] * round(rate)]
    for picture, expected in zip(shown, held, strict=True):
        assert picture.shape == (36, 64, 3)
        assert np.abs(picture - expected).max() <= 8


def test_one_picture_is_a_film():
    shown, durations = read_gif(gif([noise(colours=16)], 15.0))
    assert (len(shown), durations) == (1, [1000])
    with av.open(io.BytesIO(mp4([noise()], 2.0))) as film:
        assert len(list(film.decode(video=0))) == 3  # and two more for a second


def test_the_ending_chooses_the_encoder(monkeypatch):
    assert find_encoder(Path("a/b.gif")) is gif
    assert find_encoder(Path("b.MP4")) is mp4
    for name in ("b.avi", "b", "b.gif.zip"):
        with pytest.raises(ValueError, match=r"ends in \.mp4 or \.gif"):
            find_encoder(Path(name))
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    assert find_encoder(Path("b.gif")) is gif
    with pytest.raises(ValueError, match=r"pip install 'auxgate\[video\]', or write a \.gif"):
        find_encoder(Path("b.mp4"))
