"""``python -I _vcenter_floor.py HOST PORT CAFILE REQUESTS AUTH``: the least that Python can do a push to vCenter with.

It sends the requests that a push sends, on one verified connection, with a session of its own, and looks once at what
is served afterwards. REQUESTS is JSON: method, path, body.
"""

# ruff: noqa: ANN001, PTH123  to import typing or pathlib would cost what is measured here
import http.client
import json
import socket
import ssl
import sys


def main(host, port, cafile, requests, auth):  # noqa: ANN202
    """Send them all."""
    context = ssl.create_default_context(cafile=cafile)
    connection = http.client.HTTPSConnection(host, int(port), context=context)
    session = ""
    with open(requests) as file:
        recorded = json.load(file)
    with open(auth) as file:
        basic = file.read()
    for method, path, body in recorded:
        headers = {"Authorization": basic} if method == "POST" and path == "/api/session" else {}
        headers = headers or {"vmware-api-session-id": session, "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        reply = connection.getresponse().read()
        session = json.loads(reply) if "Authorization" in headers else session
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        tls.getpeercert(binary_form=True)


main(*sys.argv[1:])
