"""Error rates of face recognition by demographic group, and how far they differ."""
