"""One file per paper: the gates that `agents.gates.make` builds."""
