"""What `experiments/report/__main__.py` is made of.

In the order of the data: `thin` makes a small CSV of a run's folder and `runs` reads it, `arms`
groups and names runs by their options (`command`), `scores` measures arms with the statistics of
`estimates`; `tables`, `words`, `figure_curves` and `figure_improvement` (`look`) say it.
"""
