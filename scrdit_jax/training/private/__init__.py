"""Training with differential privacy (DP-SGD; Abadi et al. 2016): draws, step, accounting, secret."""
