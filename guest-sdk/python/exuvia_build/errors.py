"""What goes wrong in a build."""

# What a script exits with if tools are missing: EX_UNAVAILABLE of sysexits.h.
MISSING = 69


class BuildError(Exception):
    """A text for people, and the status to exit with."""

    def __init__(self, text: str, status: int = 1):
        super().__init__(text)
        self.status = status
