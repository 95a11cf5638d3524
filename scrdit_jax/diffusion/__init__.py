"""The forward process: betas, noise levels, timestep sub-sequences. NumPy in float64, and pure JAX."""
