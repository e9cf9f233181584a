"""Where a fold runs; never what it computes."""
