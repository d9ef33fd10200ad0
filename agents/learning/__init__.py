"""From a trajectory to one optimizer step, through the gate."""
