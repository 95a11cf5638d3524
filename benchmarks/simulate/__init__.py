"""Whether what `scrdit simulate` plants is found again by the field's own methods, and nothing else."""
