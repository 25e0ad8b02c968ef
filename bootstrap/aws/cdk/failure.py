"""What is wrong with what the operator gave, in one sentence."""


class Failure(Exception):
    """Names the file, the key, and what would be right."""
