import io
import math
import os
import socket
import time

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from agents.logs.tensorboard import EventFile


def write(folder, *lines, start_step=0, description=None):
    events = EventFile(folder, description or {}, start_step)
    for step, numbers in lines:
        events.append(step, numbers)
    events.close()


def read(folder):
    """The points of each tag, as TensorBoard reads the folder."""
    accumulator = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def test_every_number_is_a_point_under_its_tag(tmp_path):
    write(
        tmp_path,
        (10, {"return": 1.5, "distill/cosine": -0.25}),
        (20, {"return": 2.5, "distill/cosine": 0.5}),
    )
    assert read(tmp_path) == {
        "1_return/episode_return": [(10, 1.5), (20, 2.5)],
        "2_cosine/distill": [(10, -0.25), (20, 0.5)],
    }


def test_what_was_not_measured_is_no_point(tmp_path):
    write(tmp_path, (10, {"return": math.nan, "entropy": 1.0}), (20, {"return": 2.0}))
    assert read(tmp_path) == {
        "1_return/episode_return": [(20, 2.0)],
        "8_training/entropy": [(10, 1.0)],
    }


def test_a_line_is_on_the_disk_before_the_next_one(tmp_path):
    events = EventFile(tmp_path, {})
    for step in (1, 2, 3):
        events.append(step, {"return": 1.0})
        assert [point[0] for point in read(tmp_path)["1_return/episode_return"]] == list(
            range(1, step + 1)
        )
    events.close()


def images(folder):
    """The steps and pictures of each tag."""
    accumulator = EventAccumulator(str(folder)).Reload()
    return {
        tag: [
            (event.step, np.asarray(Image.open(io.BytesIO(event.encoded_image_string))).tolist())
            for event in accumulator.Images(tag)
        ]
        for tag in accumulator.Tags()["images"]
    }


def test_a_picture_is_shown_as_it_is_under_its_tag(tmp_path):
    events = EventFile(tmp_path, {})
    small = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    events.show(10, {"cosines": small, "reconstruct/picture": small[:1]})
    assert (
        images(tmp_path)
        == {  # on the disk already
            "2_cosine/all": [(10, small.tolist())],
            "7_reconstruct/picture": [(10, small[:1].tolist())],
        }
    )
    events.close()


def test_a_resumed_run_shows_no_picture_twice(tmp_path):
    dark, bright = (np.full((1, 1, 3), value, dtype=np.uint8) for value in (0, 255))
    for start, picture in ((0, dark), (10, bright)):
        events = EventFile(tmp_path, {}, start)
        for step in (10, 20):
            if step > start:
                events.show(step, {"cosines": picture})
        events.close()
    expected = [(10, dark.tolist()), (20, bright.tolist())]
    assert images(tmp_path) == {"2_cosine/all": expected}


def test_a_resumed_run_shows_no_point_twice(tmp_path):
    write(tmp_path, *((step, {"return": float(step)}) for step in (10, 20, 30)))
    write(tmp_path, (25, {"return": 0.25}), (35, {"return": 0.35}), start_step=20)
    write(tmp_path, (30, {"return": 0.5}), start_step=25)
    assert read(tmp_path) == {
        "1_return/episode_return": [(10, 10.0), (20, 20.0), (25, 0.25), (30, 0.5)]
    }


def test_points_are_cut_from_the_files_themselves(tmp_path):
    # TensorBoard's own way, to skip them while reading, is not known to all other readers.
    write(tmp_path, (10, {"return": 1.0}), (20, {"return": 2.0}))
    write(tmp_path, (15, {"return": 1.5}), (30, {"return": 3.0}), start_step=10)
    write(tmp_path, start_step=10)
    assert [read(path) for path in sorted(tmp_path.iterdir())] == [
        {"1_return/episode_return": [(10, 1.0)]},
        {},
        {},
    ]


def test_a_tensorboard_that_is_already_looking_forgets_what_was_cut(tmp_path):
    write(tmp_path, (10, {"return": 1.0}), (20, {"return": 2.0}), (30, {"return": 3.0}))
    watching = EventAccumulator(str(tmp_path)).Reload()
    write(tmp_path, (25, {"return": 0.5}), start_step=20)
    points = watching.Reload().Scalars("1_return/episode_return")
    assert [(point.step, point.value) for point in points] == [(10, 1.0), (20, 2.0), (25, 0.5)]


@pytest.mark.parametrize("lost", [1, 4, 30])
def test_a_record_that_a_killed_process_left_half_written_is_cut(tmp_path, lost):
    write(tmp_path, (10, {"return": 1.0}), (20, {"return": 2.0}))
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - lost)
    write(tmp_path, (20, {"return": 5.0}), start_step=10)
    assert read(tmp_path) == {"1_return/episode_return": [(10, 1.0), (20, 5.0)]}


def test_hyper_parameters_are_part_of_the_same_run(tmp_path):
    options = {
        "seed": 1,
        "rate": 0.5,
        "gate": "a|b",
        "normalise": True,
        "end": None,
        "shape": (2, 3),
    }
    write(tmp_path, (10, {"return": 1.0}), description=options)
    write(tmp_path, (20, {"return": 2.0}), start_step=10, description=options)
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    assert not any(path.is_dir() for path in tmp_path.iterdir())

    summary = accumulator.SummaryMetadata("_hparams_/session_start_info")
    content = summary.plugin_data.content
    held = metadata.parse_session_start_info_plugin_data(content).hparams
    assert held["seed"].number_value == 1
    assert held["rate"].number_value == 0.5
    assert held["gate"].string_value == "a|b"
    assert held["normalise"].string_value == "True"
    assert held["end"].string_value == "None"
    assert held["shape"].string_value == "(2, 3)"

    (table,) = accumulator.Tensors("config/text_summary")  # once, not at each resume
    text = table.tensor_proto.string_val[0].decode()
    assert text.startswith("|option|value|\n|-|-|\n|seed|1|\n")
    assert "|gate|a\\|b|" in text


def test_files_are_named_as_readers_of_event_files_expect(tmp_path):
    began = int(time.time())
    write(tmp_path, (10, {"return": 1.0}))
    [path] = tmp_path.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    # As Weights & Biases recognises the files of a run: its time, then the name of the host.
    created, rest = path.name.removeprefix("events.out.tfevents.").split(".", 1)
    assert began <= int(created) <= time.time() + 1
    assert rest.startswith(socket.gethostname() + ".")


def test_files_of_one_second_are_read_in_the_order_in_which_they_were_written(tmp_path):
    for number in range(12):
        write(tmp_path, (number + 1, {"return": float(number)}), start_step=number)
    assert len(list(tmp_path.iterdir())) == 12
    assert [value for _, value in read(tmp_path)["1_return/episode_return"]] == list(range(12))


def test_a_run_whose_files_an_earlier_version_numbered_goes_on(tmp_path):
    write(tmp_path, (10, {"return": 1.0}), (20, {"return": 2.0}))
    [path] = tmp_path.iterdir()
    path.rename(tmp_path / "events.out.tfevents.0000")
    write(tmp_path, (15, {"return": 1.5}), start_step=10)
    assert read(tmp_path) == {"1_return/episode_return": [(10, 1.0), (15, 1.5)]}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_a_flipped_byte_costs_what_comes_after_it_and_is_told(tmp_path, place):
    write(tmp_path, (10, {"return": 1.0}), (20, {"return": 2.0}))
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) - place - 1  # in the last record
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :])
    events = EventFile(tmp_path, {}, start_step=20)
    [note] = events.notes
    assert note.startswith(f"{path.name} was damaged: its last ")
    events.append(30, {"return": 3.0})
    events.close()
    assert read(tmp_path) == {"1_return/episode_return": [(10, 1.0), (30, 3.0)]}


def test_an_event_file_that_is_whole_is_cut_without_a_word(tmp_path):
    write(tmp_path, (10, {"return": 1.0}), (20, {"return": 2.0}))
    events = EventFile(tmp_path, {}, start_step=10)
    assert events.notes == []
    events.close()
    assert read(tmp_path) == {"1_return/episode_return": [(10, 1.0)]}
