"""Programs that step gridworlds with random actions, ours and others', each in its own Python.

`worker` runs one of them as a process; `protocol` is what the two sides agree on; the other
modules are the programs.  They import nothing but the standard library and what they measure,
so that the interpreter of a peer needs no packages of ours.
"""
