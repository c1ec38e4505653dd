"""The one error type that a user of the study is meant to read."""


class WeaksegError(ValueError):
    """Input that cannot be used: the message names the file or field, what is wrong and what to do."""
