"""The vectorised core: numpy and numba, no input or output, no policy, no text."""
