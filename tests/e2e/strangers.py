"""Who knocks at a recorded inbound listener over TLS: a workload of the mesh, and those that must not get in."""

from datetime import timedelta

from tests.e2e.loop_world import FRONT, MESH, LoopWorld
from tests.support.authority import Authority, Issued
from tests.support.client import Response, request_bytes
from tests.support.tls import TlsConnection, client_context

CLIENT = "spiffe://cluster.local/ns/shop/sa/client"
WORKLOAD = MESH.issue(CLIENT)
STRANGERS: dict[str, Issued | None] = {
    "no certificate": None,
    "a certificate of another authority": Authority("elsewhere").issue(CLIENT),
    "a certificate of another trust domain": MESH.issue("spiffe://elsewhere/ns/shop/sa/client"),
    "an expired certificate": MESH.issue(CLIENT, start=timedelta(days=-2), end=timedelta(days=-1)),
}


def over_mutual_tls(world: LoopWorld, client: Issued | None, *alpn: str, listener: str = "7080") -> Response | None:
    """What a request with this certificate is answered; None where the connection is ended instead."""
    context = client_context(MESH.root, certificate=client, alpn=alpn)
    head = [("host", FRONT), ("user-agent", "quiet"), ("x-forwarded-client-cert", "URI=forged")]
    try:
        with TlsConnection(world.listener_port(listener), context, host=world.listener_host(listener)) as connection:
            connection.send(request_bytes("GET", "/in", head))
            return connection.read_response()
    except OSError:
        return None
