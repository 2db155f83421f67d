"""What has come of a request's body, kept while it may have to be sent once more: by a retry, or to a mirror."""


class KeptBody:
    """The parts in order. It grows beyond `limit_bytes` if it is let: whoever keeps it asks."""

    __slots__ = ("limit_bytes", "parts", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.parts: list[bytes] = []
        self.size_bytes = 0

    def keep(self, data: bytes) -> None:
        self.parts.append(data)
        self.size_bytes += len(data)

    @property
    def too_big(self) -> bool:
        return self.size_bytes > self.limit_bytes

    def __repr__(self) -> str:
        return f"<KeptBody {self.size_bytes} of {self.limit_bytes} bytes>"
