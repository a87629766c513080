"""A weight-sharing search engine for neural architectures."""
