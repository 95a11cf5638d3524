"""From a trained run to synthetic cells in a file."""
