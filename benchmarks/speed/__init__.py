"""How fast, and how far apart the ways to compute the same cells are."""
