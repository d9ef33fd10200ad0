"""Teachers that are tables: one row of logits per flat state of a gridworld."""

from jaxtyping import Float
from torch import Tensor

from agents.teacher import Teacher
from agents.types import Trajectory


class TableTeacher(Teacher):
    """Looks up what to do by `Trajectory.state`, which the student never sees."""

    logits_are_values = True
    table: Tensor

    def __init__(self, table: Float[Tensor, "states A"], origin: str) -> None:
        """Takes the table as it is.

        Args:
            table: values of actions, which serve as logits.
            origin: names the table and the worlds that it is of, as its digest: the numbers
                themselves may differ in their last digits from one machine to the next.
        """
        super().__init__()
        self.register_buffer("table", table, persistent=False)
        self.digest = origin

    def forward(self, trajectory: Trajectory) -> Float[Tensor, "T B A"]:
        """Looks up the logits at all states but the last."""
        state = trajectory.state
        assert state is not None, "a table teaches only where states are known"
        return self.table[state[:-1]]
