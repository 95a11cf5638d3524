"""Models trained by other programs, made into runs."""
