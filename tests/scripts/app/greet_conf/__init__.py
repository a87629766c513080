"""The Hydra groups of the command in greet.py."""
