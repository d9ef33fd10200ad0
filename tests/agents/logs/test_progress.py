import math
import re
from pathlib import Path

import pytest

from agents.logs.terminal import TAGS, Progress, Split, importance, tag
from envs.episodes import EpisodeSummary

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"


def progress(**metrics):
    return Progress(
        step=1000,
        seconds=20.0,
        steps_per_second=50.0,
        split=Split(environment=0.25, acting=0.125, learning=0.625),
        episodes=EpisodeSummary(finished=3, averaged=2, mean_return=1.5, mean_length=30.0),
        learning_rate=0.5,
        metrics=metrics,
        gate="cosine",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("return", "1_return/episode_return"),
        ("distill/cosine", "2_cosine/distill"),
        ("distill/weight", "4_weight/distill"),
        ("distill/kl", "7_distill/kl"),
        ("gradient_norm", "8_training/gradient_norm"),
        ("distill/gradient_norm", "7_distill/gradient_norm"),
        ("sps", "9_speed/sps"),
        ("distill/brand_new", "7_distill/brand_new"),
        ("brand_new", "8_training/brand_new"),
    ],
)
def test_every_metric_has_its_tag(name, expected):
    assert tag(name) == expected


def test_tags_sort_as_the_table_does_and_no_two_are_alike():
    tags = [pattern.format(head="distill") for pattern in TAGS.values()]
    groups = [name.split("/")[0] for name in tags]
    assert groups == sorted(groups)
    assert len(set(tags)) == len(tags)
    for word in ("return", "cosine", "weight", "sps"):
        assert any(re.search(rf"\b{word}\b", name.replace("_", " ")) for name in tags)


def test_metrics_sort_by_importance_then_by_head():
    names = ["zeta/kl", "skipped", "new", "b/passed", "return", "a/passed", "b/cosine", "seconds"]
    assert sorted(names, key=importance) == [
        "return",
        "b/cosine",
        "a/passed",
        "b/passed",
        "zeta/kl",
        "skipped",
        "seconds",
        "new",
    ]


def test_a_log_line_gives_all_its_numbers():
    numbers = progress(**{"policy_loss": -1.0, "distill/cosine": math.nan}).numbers()
    assert math.isnan(numbers.pop("distill/cosine"))
    assert numbers == {
        "return": 1.5,
        "length": 30.0,
        "episodes": 3,
        "policy_loss": -1.0,
        "learning_rate": 0.5,
        "sps": 50.0,
        "environment": 0.25,
        "acting": 0.125,
        "learning": 0.625,
        "seconds": 20.0,
    }


def test_heads_are_known_by_their_metrics_in_the_order_they_come():
    line = progress(**{"entropy": 1.0, "inverse/loss": 1.0, "distill/loss": 1.0, "inverse/kl": 0.0})
    assert line.heads() == ["inverse", "distill"]


def test_the_document_explains_every_metric_of_the_table_and_no_other():
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert dict(rows) == {
        name.replace("{head}", "<head>"): its_tag.replace("{head}", "<head>")
        for name, its_tag in TAGS.items()
    }
