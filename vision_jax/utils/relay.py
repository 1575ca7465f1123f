"""A relay of TCP connections that outlives the server."""

import contextlib
import socket
import threading


def start(address: str) -> str:
    """Relays to 'host:port' while this process lives; returns the relay's own address.

    When the server goes, its clients here are not told: their connections stay open, and silent.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listening, address), name="relay", daemon=True).start()
    return f"127.0.0.1:{listening.getsockname()[1]}"


def _accept(listening: socket.socket, address: str) -> None:
    host, _, port = address.rpartition(":")
    while True:
        client, _ = listening.accept()
        try:
            server = socket.create_connection((host.strip("[]"), int(port)))
        except OSError:  # The client tries again.
            client.close()
            continue
        threading.Thread(target=_to_server, args=(client, server), name="relay", daemon=True).start()
        threading.Thread(target=_pass_on, args=(server, client), name="relay", daemon=True).start()


def _to_server(client: socket.socket, server: socket.socket) -> None:
    _pass_on(client, server)
    client.close()
    server.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)
