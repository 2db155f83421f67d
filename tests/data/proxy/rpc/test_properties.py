"""Properties of calls are the services' own: what steers the router in HTTP's headers means nothing in them."""

from tests.data.proxy.rpc.test_connection import CART, Frames, Rpc, id_of, play, status_of
from tests.support import bolt

_ERROR = 1


def test_properties_ask_for_no_retries() -> None:
    async def story(rpc: Rpc) -> None:
        client = Frames(rpc.client().stream)
        asked = [*CART, (b"x-envoy-retry-on", b"5xx"), (b"x-envoy-max-retries", b"3")]
        await client.say(bolt.request(asked, id=7))
        server = await rpc.server()
        heard = await server.next()
        await server.say(bolt.response(id=id_of(heard), status=_ERROR))
        assert status_of(await client.next()) == _ERROR
        await client.say(bolt.request(CART, b"next", id=8))
        assert (await server.next()).endswith(b"next")

    play(story)
