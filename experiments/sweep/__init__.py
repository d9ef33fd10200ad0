"""The parts of `sweep.py`: what is learnt side by side, by whom, and what is made of it."""
