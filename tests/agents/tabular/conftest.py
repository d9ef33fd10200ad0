"""Small worlds and students in them."""

import pytest
import torch

from agents.tabular import Students
from gridworld import WorldConfig, parse

PICTURES = (
    """
    ######
    #S..A#
    #.#-.#
    #B..C#
    ######
    """,
    """
    ######
    #..D.#
    #.-S.#
    #..#A#
    ######
    """,
)


@pytest.fixture
def build_worlds():
    """Parses two worlds of 3 x 4 cells; a view radius of 0 makes cells of one kind look alike."""

    def build_worlds(**options):
        return parse(WorldConfig(height=5, width=6, **options), PICTURES)

    return build_worlds


@pytest.fixture
def build_students(build_worlds):
    """Builds three students, two of them in the second world, with random tables and teachers."""

    def build_students(world=(1, 0, 1), seed=0, scale=1.0, **options):
        worlds = build_worlds(**options)
        generator = torch.Generator().manual_seed(seed)
        teacher = torch.rand(len(world), 30, 4, generator=generator)
        students = Students.fresh(
            worlds, torch.tensor(world), teacher / teacher.sum(-1, keepdim=True)
        )
        students.logits.normal_(generator=generator).mul_(scale)
        return students

    return build_students
