"""What every process needs: random numbers, files, checkpoints, other processes."""
