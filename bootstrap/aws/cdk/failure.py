"""Errors in the operator's files, in one sentence."""


class Failure(Exception):
    """Names the file, the key, and what is expected."""
