"""What the package is measured with: `speed`, `fidelity`, `paper`, `peers`. README.md has the figures and commands."""
