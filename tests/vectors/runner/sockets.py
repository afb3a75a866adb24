"""A UDP and a TCP socket on one port of loopback, as name servers and Authentication Servers have them."""

import socket


def pair():
    """Both, bound and not listened on."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            tcp.bind(udp.getsockname())
            return udp, tcp
        except OSError:
            # Somebody else's on TCP: another one.
            udp.close()
            tcp.close()


def end(*sockets):
    """Closes them, so that a thread that waits at one goes on."""
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()
