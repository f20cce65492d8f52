"""What nobody knows for certain of vCenter and ESXi, and what goes wrong on them: to be set by each test."""

from __future__ import annotations

from dataclasses import dataclass, field

PHASES = ("quiet", "refuse", "reset", "text503", "envoy503", "json503", "unauthenticated")
PUTS = ("answered", "reset", "hang", "unavailable", "400", "404", "500", "lost", "refused503")


@dataclass
class Phase:
    """A part of the time after the machine certificate was replaced.

    ``what`` is ``refuse`` (no connection), ``reset`` (connections are cut), ``text503`` (rhttpproxy's words),
    ``envoy503`` (envoy's), ``json503`` (vAPI's own), ``unauthenticated`` (no session is opened or accepted, the
    password is right all the same), or ``quiet`` (everything answers). It lasts ``seconds``, and until ``hits``
    requests have met it (there are none to count while connections are refused). With ``old`` the former certificate
    is still served.
    """

    what: str
    seconds: float = 0.2
    hits: int = 0
    old: bool = False


def restart() -> list[Phase]:
    """Return what a replacement costs before 8.0U3: every stage, one after the other."""
    return [
        Phase("quiet", 0.1, old=True),
        Phase("reset", 0.1, hits=1),
        Phase("refuse", 0.2),
        Phase("text503", 0.1, hits=1),
        Phase("envoy503", 0.1, hits=1),
        Phase("json503", 0.1, hits=1),
        Phase("unauthenticated", 0.1, hits=1),
    ]


@dataclass
class Switches:
    """The switches of one vCenter.

    Attributes:
        put: how the replacement's request ends: ``answered`` (204, or 200), ``reset`` (cut in the middle of the reply),
            ``hang`` (no answer), ``unavailable`` (503 as JSON), ``400``, ``404``, ``500`` (as if it were refused): in
            all of these it is carried out; ``lost`` (cut) and ``refused503`` (503 as JSON): it is not.
        after: what follows a replacement; empty is 8.0U3 and newer: instant.
        roll_back: when all that is over, the former certificate returns, in the store too.
        sessions_survive: a restart leaves sessions valid.
        tls_already_exists: PUT of the certificate that is there is refused; else it is carried out again.
        root_already_exists: POST of a root whose id is there is refused; else 201 with that id, and nothing changes.
        root_lag: seconds until a root that was added is listed (vmafd copies it every 60 s).
        crl_in_chain: the string of a chain holds a CRL after its certificate.
        first_id: a chain of several gets its first certificate's id; else its last one's.
        api: whether ``/api`` exists (7.0 and newer).
        rest: whether ``/rest`` exists.
        challenge: whether a 401 has a challenge beside its messages.
        high_availability: mode of vCenter HA (``ENABLED``, ``DISABLED``, ``MAINTENANCE``), empty where there is none.
        old_401: 6.5's form of it, without error_type.

    """

    put: str = "answered"
    after: list[Phase] = field(default_factory=list)
    roll_back: bool = False
    sessions_survive: bool = False
    tls_already_exists: bool = True
    root_already_exists: bool = True
    root_lag: float = 0.0
    crl_in_chain: bool = False
    first_id: bool = True
    api: bool = True
    rest: bool = True
    challenge: bool = False
    high_availability: str = ""
    old_401: bool = False
