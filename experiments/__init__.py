"""What runs, repeats and reports: training, evaluation, sweeps, studies."""
