"""Somebody else's system, driven by the audit; the only room that starts processes or opens sockets."""
