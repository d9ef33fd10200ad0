"""The command line: what may be chosen, what each choice may be told, and the defaults."""
