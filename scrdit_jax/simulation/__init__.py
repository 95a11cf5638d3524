"""Synthetic cells with effects of known size planted in them, for benchmarks of methods that look for such effects."""
