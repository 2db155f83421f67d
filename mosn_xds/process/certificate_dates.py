"""When the certificates in use end: `server.days_until_first_cert_expiring`. Each secret is read once."""

import msgspec

from mosn_xds.admin.certs_page import days_left, ends_at
from mosn_xds.spec.snapshot import Kind, Snapshot
from mosn_xds.spec.tls import Secret


class CertificateDates:
    """See the module."""

    def __init__(self) -> None:
        self._ends: dict[bytes, float | None] = {}
        self._decode = msgspec.msgpack.Decoder(Secret).decode

    def __repr__(self) -> str:
        return f"<CertificateDates of {len(self._ends)} secrets>"

    def first_days(self, snapshot: Snapshot, now: float) -> int | None:
        """Whole days until the first certificate of `snapshot` is over; None without one."""
        known = self._ends
        self._ends = {
            item.uid: known[item.uid] if item.uid in known else ends_at(self._decode(item.raw))
            for item in snapshot.items.values()
            if item.kind is Kind.SECRET
        }
        ends = [end for end in self._ends.values() if end is not None]
        return days_left(min(ends), now) if ends else None
