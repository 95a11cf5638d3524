"""The tables and figures of the paper, measured anew: see `__main__`."""
