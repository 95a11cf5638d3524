"""Solvers as coefficient tables, and the one loop that runs them."""
