"""Studies of many runs: `study.py` expands a grid, trains its runs anywhere and reports."""
