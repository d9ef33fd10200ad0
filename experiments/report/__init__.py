"""What `python -m experiments.report` is made of, in the order of the data.

`runs` makes a small CSV from the folder of a run and reads it back, `arms` groups and names runs
by their options (`command`), `scores` compares the arms with `experiments.statistics`; `tables` and
`figures` present the numbers.
"""
