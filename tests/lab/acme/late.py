"""Passes the NOTIFY messages of a primary on to a secondary, once a zone has been quiet for some seconds.

    python -I late.py ADDRESS PORT SECONDS TO_ADDRESS TO_PORT

So nothing reaches the secondary sooner than SECONDS after it was written. Each message is acknowledged at once
(RFC 1996, 3.12), as the secondary itself would do.
"""

from __future__ import annotations

import socket
import sys
import time

_RESPONSE = 0x80  # QR, the first bit of the third byte (RFC 1035, 4.1.1)
_FIXED = 12  # bytes of the header; the question, and with it the zone, follows


def relay(here: socket.socket, seconds: float, there: tuple[str, int]) -> None:
    """Do it until this process is killed."""
    due: dict[bytes, tuple[float, bytes]] = {}
    while True:
        now = time.monotonic()
        for zone in [zone for zone, (when, _) in due.items() if when <= now]:
            here.sendto(due.pop(zone)[1], there)
        here.settimeout(min((when - now for when, _ in due.values()), default=None))
        try:
            message, sender = here.recvfrom(4096)
        except socket.timeout:  # TimeoutError from Python 3.10 on
            continue
        if not message[2] & _RESPONSE:
            here.sendto(message[:2] + bytes([message[2] | _RESPONSE]) + message[3:], sender)
            question = message[_FIXED : message.index(b"\0", _FIXED)]
            due[question] = (time.monotonic() + seconds, message)


if __name__ == "__main__":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((sys.argv[1], int(sys.argv[2])))
        print("listening", flush=True)
        relay(listening, float(sys.argv[3]), (sys.argv[4], int(sys.argv[5])))
