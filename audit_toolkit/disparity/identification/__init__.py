"""Searches of one face among many: who is missed, who is stopped wrongly, and what a watchlist has to do with it."""
