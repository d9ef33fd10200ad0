"""Studies: arms times seeds, trained, compared and drawn."""
