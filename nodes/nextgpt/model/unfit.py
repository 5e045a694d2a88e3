"""What a network cannot take, with the input that is to blame."""


class Unfit(ValueError):
    """The text is "what is wrong; what to do". port: the node's input that gave the value."""

    def __init__(self, message: str, port: str) -> None:
        super().__init__(message)
        self.port = port
