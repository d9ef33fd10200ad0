"""Contract checks for components from your own package; see `experiments.testing`."""

from experiments.testing import check_algorithm, check_env, check_gate, check_head

__all__ = ["check_algorithm", "check_env", "check_gate", "check_head"]
