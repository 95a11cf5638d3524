"""What a model is conditioned on: variables, the table of the training cells, requests, assignment to new cells."""
