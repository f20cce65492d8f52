"""``python -I _watch_floor.py PORTS_FILE``: the least that a look at everything costs.

``getcert list``, and one TLS handshake a port with 64 threads; nothing is compared, judged or shown.
"""

# ruff: noqa: ANN001, ANN202, PTH123  to import typing or pathlib would cost what is measured here
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE  # nothing is sent: only the certificate is taken


def look(port):
    """Return what a port serves."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        return tls.getpeercert(binary_form=True)


with open(sys.argv[1]) as file:
    ports = list(map(int, file.read().split()))
subprocess.run(["/usr/bin/getcert", "list"], check=True)
with ThreadPoolExecutor(64) as pool:
    print(sum(map(len, pool.map(look, ports))))
