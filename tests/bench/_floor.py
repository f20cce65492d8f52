"""``python -I _floor.py PORT CAFILE KEYFILE REQUESTS``: the least that Python can do a push with.

It sends the requests that a real push was seen to send, byte for byte, on one verified connection, and looks at no
reply; only a poll of a job is repeated until the job is over.
"""

# ruff: noqa: ANN001, ANN202, PTH123  to import typing or pathlib would cost what is measured here
import http.client
import ssl
import sys
import time
from xml.etree import ElementTree as ET


def recorded(path):
    """Yield (content type, body) of each request: a line each for type and length, then the body."""
    with open(path, "rb") as file:
        while content_type := file.readline().decode().strip():
            yield content_type, file.read(int(file.readline()))


def main(port, cafile, key_file, requests):
    """Send them all."""
    context = ssl.create_default_context(cafile=cafile)
    connection = http.client.HTTPSConnection("127.0.0.1", int(port), context=context)
    with open(key_file) as file:
        key = file.read()
    for content_type, body in recorded(requests):
        while True:
            connection.request("POST", "/api/", body, {"Content-Type": content_type, "X-PAN-KEY": key})
            reply = ET.fromstring(connection.getresponse().read())
            if reply.findtext("result/job/status", "FIN") == "FIN":
                break
            time.sleep(0.01)


main(*sys.argv[1:])
