"""Playing: trajectories for the learner, whole episodes for evaluation."""
