"""The original destination of connections that netfilter redirects, in a network namespace of its own."""

import os
import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import socket, subprocess, sys
from mosn_xds.data.listener.original_dst import original_destination
from mosn_xds.data.net.address import address_of

def run(command):
    subprocess.run(command.split(), check=True)

def ask(family, host, port, listener):
    client = socket.socket(family)
    client.settimeout(5)
    client.connect((host, port))
    accepted, _ = listener.accept()
    print(original_destination(accepted, address_of(accepted.getsockname())))

def listen(family, host, port, *options):
    listener = socket.socket(family)
    for level, name in options:
        listener.setsockopt(level, name, 1)
    listener.bind((host, port))
    listener.listen()
    return listener

run("ip link set lo up")
transparent = listen(socket.AF_INET, "127.0.0.1", 15006, (socket.IPPROTO_IP, 19))
plain = listen(socket.AF_INET, "127.0.0.1", 15008)
ask(socket.AF_INET, "127.0.0.1", 15006, transparent)
ask(socket.AF_INET, "127.0.0.1", 15008, plain)
run("ip addr add 10.11.12.13/32 dev lo")
run("ip -6 addr add fd00::13/128 dev lo nodad")
run("iptables -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 15001")
run("ip6tables -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 15001")
v4 = listen(socket.AF_INET, "0.0.0.0", 15001)
ask(socket.AF_INET, "10.11.12.13", 80, v4)
v6 = listen(socket.AF_INET6, "::", 15001, (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
ask(socket.AF_INET6, "fd00::13", 80, v6)
v4.close()
v6.close()
both = listen(socket.AF_INET6, "::", 15001)
ask(socket.AF_INET, "10.11.12.13", 80, both)
"""


def can_make_namespaces() -> bool:
    tools = ("unshare", "ip", "iptables", "ip6tables")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    return (
        subprocess.run(["unshare", "-n", "iptables", "-t", "nat", "-L"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.root
@pytest.mark.skipif(not can_make_namespaces(), reason="needs root, iptables and network namespaces")
def test_redirected_connections_remember_where_they_were_going() -> None:
    command = ["unshare", "-n", sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "127.0.0.1:15006",  # transparent: the local address is the original destination
        "None",
        "10.11.12.13:80",
        "[fd00::13]:80",
        "10.11.12.13:80",  # IPv4 through an IPv6 socket
    ]
