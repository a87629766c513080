"""The verbs, one file a command; Hydra enters here and nowhere else."""
