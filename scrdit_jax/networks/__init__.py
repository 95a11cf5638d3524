"""Linen modules used functionally: they predict, and know nothing of diffusion or files."""
