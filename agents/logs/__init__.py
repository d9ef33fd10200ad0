"""Where a run's numbers and pictures go: terminal, TensorBoard, `metrics.csv`."""
