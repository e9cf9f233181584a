"""The commands; each parses, calls one function of the api, and prints."""
