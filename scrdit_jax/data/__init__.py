"""Cells in: reading, checking, normalising, choosing genes, scaling, batching."""
