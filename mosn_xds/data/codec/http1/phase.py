"""The states of an HTTP/1 connection that its two codecs share."""

from enum import Enum


class Reading(Enum):
    """What bytes from the peer are taken for."""

    MESSAGES = "reading"
    """HTTP messages: they go to the parser."""
    AWAITING = "upgrade asked for"
    """Behind a request to upgrade that is not decided: they are kept."""
    RAW = "upgraded"
    """Another protocol's: they are passed on."""
    OVER = "over"
    """Nothing: the connection is to be closed."""


class Framing(Enum):
    """How the body of the message that is being sent is written."""

    NONE = "none"
    PLAIN = "plain"
    CHUNKED = "chunked"
