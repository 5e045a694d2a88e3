"""What a client may ask for at most. One frozen value; `hello` and `GET /system` show it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds.

    body_bytes       a JSON body or a websocket frame from a client; it has to hold a whole workflow
    upload_bytes     one uploaded file
    chunk_bytes      a piece of a binary answer on the websocket; larger ones come in several frames
    in_flight        requests of one socket at work at a time; the socket is read no further until one is done
    watched          runs that one socket watches at a time
    send_s           a client that takes nothing off its connection for this long is dropped
    body_s           a client has this long to send a JSON body
    pace_s           events of one run are collected this long between two frames
    """

    body_bytes: int = 17 * MEBIBYTE
    upload_bytes: int = 2048 * MEBIBYTE
    chunk_bytes: int = MEBIBYTE
    in_flight: int = 64
    watched: int = 1024
    send_s: float = 30.0
    body_s: float = 60.0
    pace_s: float = 0.002

    def to_dict(self) -> dict[str, float]:
        return asdict(self)
