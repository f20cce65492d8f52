"""The least that an ACME client can be given: nsupdate with a TSIG key, and no waiting.

    python -I nsupdate_hook.py ADDRESS PORT KEYFILE CLIENT WORDS...

CLIENT says whose contract holds for the words: certbot, dehydrated, lego or mod_md, or httpreq with the port to serve.
It proves the lab, and it is the floor that other hooks are measured against. CNAMEs are followed, as far as one
server knows them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADD = {"auth", "deploy_challenge", "present", "setup"}
DELETE = {"cleanup", "clean_challenge", "teardown"}


@dataclass(frozen=True)
class Server:
    """The name server, and the key that may change it."""

    address: str
    port: str
    key_file: str

    def change(self, verb: str, records: list[tuple[str, str]]) -> int:
        """Add or delete the values of these names, and return nsupdate's exit status; other verbs do nothing."""
        action = "add" if verb in ADD else "delete" if verb in DELETE else ""
        if not action or not records:
            return 0
        aliases = self._aliases([name for name, _ in records])
        lines = [f"server {self.address} {self.port}"]
        for name, value in records:
            ttl = "5 " if action == "add" else ""
            lines += [f'update {action} {aliases.get(name, name)} {ttl}TXT "{value}"', "send"]
        command = ["nsupdate", "-k", self.key_file]
        return subprocess.run(command, input="\n".join([*lines, ""]), text=True, check=False).returncode

    def _aliases(self, names: list[str]) -> dict[str, str]:
        """Return where the names that are CNAMEs lead, by one question for all."""
        command = ["dig", f"@{self.address}", "-p", self.port, "+noall", "+answer", "+norecurse"]
        question = [*command, *names, "-t", "CNAME"]
        nothing = subprocess.DEVNULL  # mod_md closes standard input, and dig dies of that
        shown = subprocess.run(question, stdin=nothing, capture_output=True, text=True, check=True).stdout
        answers = [line.split() for line in shown.splitlines()]
        found = {words[0]: words[4] for words in answers if words[3] == "CNAME"}
        return {name: _end(found, name) for name in names}


def _end(aliases: dict[str, str], name: str) -> str:
    while name in aliases:
        name = aliases[name]
    return name


def challenge(domain: str) -> str:
    """Return the name that holds the answer (RFC 8555, 8.4)."""
    return f"_acme-challenge.{domain.removeprefix('*.')}."


def digest(key_authorization: str) -> str:
    """Return the value that belongs to a key authorization (RFC 8555, 8.4)."""
    return base64.urlsafe_b64encode(hashlib.sha256(key_authorization.encode()).digest()).decode().rstrip("=")


def records(client: str, words: list[str]) -> list[tuple[str, str]]:
    """Return the names and values that a client's words after the verb speak of."""
    if client == "certbot":
        return [(challenge(os.environ["CERTBOT_DOMAIN"]), os.environ["CERTBOT_VALIDATION"])]
    if client == "dehydrated":
        return [(challenge(domain), value) for domain, value in zip(words[::3], words[2::3])]
    if client == "mod_md":
        return [(challenge(words[0]), words[1])]
    if words[0] == "--":  # lego's RAW mode
        return [(challenge(words[1]), digest(words[3]))]
    return [(words[0], words[1])]


def serve(server: Server, port: int) -> None:
    """Answer lego's httpreq requests on loopback until this process is killed."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "keyAuth" in asked:
                record = (challenge(asked["domain"]), digest(asked["keyAuth"]))
            else:
                record = (asked["fqdn"], asked["value"])
            code = server.change(self.path.strip("/"), [record])
            self.send_response(500 if code else 200)
            self.end_headers()

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main(argv: list[str]) -> int:
    """Do what the client wants and return the exit status."""
    server = Server(*argv[:3])
    client, verb, *words = argv[3:]
    if client == "httpreq":
        serve(server, int(verb))
    wanted = verb in ADD | DELETE
    return server.change(verb, records(client, words) if wanted else [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
