"""The values an audit ends in, and the words for them.

Everything here is a plain value: no arrays, no files, no drawing. So that a record can be read, checked and shown anywhere,
this room imports no numpy.
"""
