"""From counts to intervals and p-values; one module a question."""
