"""Comparisons with plain PyTorch: time and memory, side by side, on this machine."""
