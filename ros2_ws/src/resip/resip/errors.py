"""The errors that a user can cause or mend: each message names what was wrong, where, and the remedy."""


class ResipError(Exception):
    """Base of every error that the command line and the nodes print as one line, without a traceback."""


class UnknownNameError(ResipError):
    """A name that is not among the valid ones."""

    def __init__(self, kind: str, name: str, valid: list[str] | tuple[str, ...]) -> None:
        super().__init__(f"unknown {kind} {name!r}: choose from {', '.join(valid)}")
