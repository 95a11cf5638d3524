"""How good the cells are, beside those of other generators and real ones: see `__main__`."""
