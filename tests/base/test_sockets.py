"""Listening sockets against a real kernel."""

import errno
import os
import resource
import socket
import subprocess
import sys

import pytest

from mosn_xds.base.sockets import (
    BindError,
    Keepalive,
    ListenOptions,
    bind_sockets,
    change_options,
    check_change,
    listen_backlog,
)


def accept_all(sock: socket.socket) -> int:
    count = 0
    while True:
        try:
            connection, _ = sock.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1


def knock(port: int, times: int, host: str = "127.0.0.1") -> None:
    for _ in range(times):
        socket.create_connection((host, port)).close()


def test_workers_share_one_address_and_its_connections() -> None:
    sockets = bind_sockets("127.0.0.1", 0, 2)
    assert len({sock.getsockname() for sock in sockets}) == 1
    for sock in sockets:
        sock.listen(64)
    knock(sockets[0].getsockname()[1], 40)
    counts = [accept_all(sock) for sock in sockets]
    assert sum(counts) == 40
    assert all(counts)


@pytest.mark.parametrize("stranger_shares", [False, True])
@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_that_a_stranger_holds_is_refused(stranger_shares: bool, reuse_port: bool) -> None:
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, stranger_shares)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(BindError, match=f"cannot bind '127.0.0.1:{port}': Address already in use") as caught:
            bind_sockets("127.0.0.1", port, 2, ListenOptions(reuse_port=reuse_port))
        assert caught.value.errno == errno.EADDRINUSE


def test_sockets_of_ours_may_join_the_address() -> None:
    (first,) = bind_sockets("127.0.0.1", 0, 1)
    first.listen()
    port = first.getsockname()[1]
    (second,) = bind_sockets("127.0.0.1", port, 1, joining=True)
    second.listen()
    first.close()
    knock(port, 3)
    assert accept_all(second) == 3


def test_a_socket_that_was_shut_down_gets_no_connection_until_it_listens_again() -> None:
    """How the sockets of a missing worker leave their group without giving up the address."""
    gone, stays = bind_sockets("127.0.0.1", 0, 2)
    port = gone.getsockname()[1]
    gone.listen()
    stays.listen()
    gone.shutdown(socket.SHUT_RDWR)
    knock(port, 20)
    assert accept_all(stays) == 20
    gone.listen()
    knock(port, 40)
    assert accept_all(gone) > 0


def test_a_socket_that_does_not_listen_yet_takes_no_connection_from_its_siblings() -> None:
    _starting, serving = bind_sockets("127.0.0.1", 0, 2)
    serving.listen()
    knock(serving.getsockname()[1], 20)
    assert accept_all(serving) == 20


def test_an_address_in_time_wait_can_be_bound_again() -> None:
    (sock,) = bind_sockets("127.0.0.1", 0, 1)
    sock.listen()
    port = sock.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    server, _ = sock.accept()
    server.close()
    assert client.recv(1) == b""
    client.close()
    sock.close()
    (again,) = bind_sockets("127.0.0.1", port, 1)
    again.close()


def test_accepted_connections_inherit_no_delay_and_keep_alive() -> None:
    options = ListenOptions(keepalive=Keepalive(probes=3, time_s=77, interval_s=11))
    (sock,) = bind_sockets("127.0.0.1", 0, 1, options)
    sock.listen()
    with socket.create_connection(sock.getsockname()):
        connection, _ = sock.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 11


def test_ipv6_takes_ipv4_connections_only_if_asked_to() -> None:
    try:
        (strict,) = bind_sockets("::", 0, 1)
    except BindError:
        pytest.skip("no IPv6 here")
    strict.listen()
    with pytest.raises(ConnectionRefusedError):
        knock(strict.getsockname()[1], 1)
    (both,) = bind_sockets("::", 0, 1, ListenOptions(ipv4_compat=True))
    both.listen()
    knock(both.getsockname()[1], 1)
    knock(both.getsockname()[1], 1, "::1")
    assert accept_all(both) == 2


def test_a_foreign_address_needs_freebind() -> None:
    with pytest.raises(BindError, match="Cannot assign requested address"):
        bind_sockets("192.0.2.1", 0, 1)
    (sock,) = bind_sockets("192.0.2.1", 0, 2, ListenOptions(freebind=True))[:1]
    assert sock.getsockname()[0] == "192.0.2.1"


def test_raw_options_are_set_before_bind_and_a_bad_one_is_refused() -> None:
    options = ListenOptions(options=((socket.SOL_SOCKET, socket.SO_PRIORITY, 5),))
    (sock,) = bind_sockets("127.0.0.1", 0, 1, options)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 5
    with pytest.raises(BindError, match="Protocol not available"):
        bind_sockets("127.0.0.1", 0, 1, ListenOptions(options=((socket.SOL_SOCKET, 9999, 1),)))


@pytest.mark.parametrize("host", ["300.1.1.1", "localhost", "", "1.2.3.4.5", "::g"])
def test_a_host_that_is_no_literal_address_is_refused_without_a_look_up(host: str) -> None:
    with pytest.raises(BindError, match=f"malformed IP address: {host}"):
        bind_sockets(host, 80, 1)


def test_a_unix_listener_is_one_socket_with_its_mode(tmp_path) -> None:
    path = str(tmp_path / "proxy.sock")
    sockets = bind_sockets(path, 0, 4, ListenOptions(unix_mode=0o600))
    assert len(sockets) == 1
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path) -> None:
    path = str(tmp_path / "proxy.sock")
    (stale,) = bind_sockets(path, 0, 1)
    stale.close()
    (live,) = bind_sockets(path, 0, 1)
    live.listen()
    with pytest.raises(BindError, match="Address already in use"):
        bind_sockets(path, 0, 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(BindError, match="Address already in use"):
        bind_sockets(str(path), 0, 1)
    assert path.read_text() == "data"


def test_an_abstract_unix_name() -> None:
    name = f"@mosn-xds-test-{os.getpid()}"
    (sock,) = bind_sockets(name, 0, 1)
    sock.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(b"\0" + name[1:].encode())


def test_backlog_is_what_was_configured_or_what_the_kernel_allows() -> None:
    assert listen_backlog(7) == 7
    with open("/proc/sys/net/core/somaxconn") as file:
        assert listen_backlog(None) == int(file.read())


def test_the_descriptor_limit_is_raised_to_hard() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        "import resource; from mosn_xds.base.sockets import raise_descriptor_limit as r;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (100, {min(hard, 5000)}));"
        "print(r(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(min(hard, 5000))] * 2


def test_options_change_while_a_socket_listens_and_go_back_to_what_a_new_one_has() -> None:
    plain = ListenOptions()
    odd = ListenOptions(
        freebind=True,
        keepalive=Keepalive(time_s=77),
        options=((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1234), (socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)),
    )
    (sock,) = bind_sockets("127.0.0.1", 0, 1, plain)
    (other,) = bind_sockets("127.0.0.1", 0, 1, odd)
    with sock, other:
        sock.listen()
        options = [
            (socket.IPPROTO_IP, 15),  # IP_FREEBIND
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            (socket.SOL_SOCKET, socket.SO_RCVBUF),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ]
        was = [sock.getsockopt(*option) for option in options]
        with socket.create_connection(sock.getsockname()) as waiting:
            change_options([sock], plain, odd)
            changed = [sock.getsockopt(*option) for option in options]
            assert changed == [other.getsockopt(*option) for option in options]
            assert all(a != b for a, b in zip(was, changed, strict=True))
            change_options([sock], odd, plain)
            assert [sock.getsockopt(*option) for option in options] == was
            accepted, _ = sock.accept()  # who waited is still there
            with accepted:
                accepted.send(b"x")
                assert waiting.recv(1) == b"x"


def test_an_option_that_a_bound_socket_cannot_take_changes_nothing() -> None:
    plain = ListenOptions()
    dual = ListenOptions(
        options=(
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1234),
            (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0),
        )
    )
    try:
        (sock,) = bind_sockets("::1", 0, 1)
    except BindError:
        pytest.skip("no IPv6 here")
    with sock:
        with pytest.raises(OSError):
            change_options([sock], plain, dual)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        with pytest.raises(BindError, match="cannot change the socket options of '::1': Invalid argument"):
            check_change("::1", plain, dual)
