"""What `sweep.py` runs, in the order of the data.

`arms` lists the students of a world, `chunks` trains them, `folder` saves and joins the chunks,
`summary` compares the arms and weighs the claims, `figures` and `output` write the results.
"""
