"""The Hydra groups, a package so that the commands find them from any directory (pkg://enas.conf)."""
