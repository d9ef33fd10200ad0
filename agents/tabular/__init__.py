"""Thousands of tabular students at once, through the very same gates as a network.

    students = Students.fresh(worlds, world=numbers, teacher=policies)
    practice = Practice(students, SampledConfig(), stream=numbers, seed=1)
    lesson = Lesson(students, [GateGroup(len(students), gate)], practice.signal, learning_rate=10.0)
    for _ in range(500):
        lesson.update()
    students.expected_return()                                # exact, [S]

A student is a softmax table over what it observes: cells that look alike share one
entry.  Its main loss is the policy gradient's, its auxiliary loss the cross-entropy
with its teacher's policy on the student's own states.  Either comes sampled, from
on-policy actor-critic (`Practice`), or exact, from linear solves (`exact_signal`).
"""

from agents.tabular.practice import Practice, SampledConfig
from agents.tabular.students import (
    GateGroup,
    Lesson,
    Signal,
    Students,
    TeacherAdvantage,
    TeacherLead,
    exact_signal,
    gradients,
)

__all__ = [
    "Students",
    "Signal",
    "gradients",
    "Practice",
    "SampledConfig",
    "exact_signal",
    "Lesson",
    "GateGroup",
    "TeacherAdvantage",
    "TeacherLead",
]
