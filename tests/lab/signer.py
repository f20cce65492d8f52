"""A command that signs: ``python signer.py FOLDER`` reads a request (PEM) and prints a certificate of the CA there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]

if TYPE_CHECKING:
    from tests.lab.ca import CA


def command(folder: Path, ca: CA) -> Path:
    """Keep the CA in a folder, and return a command there, without arguments, that signs with it."""
    from tests.lab.byhand import private
    from tests.lab.ca import pem_of_key

    (folder / "signer.pem").write_bytes(ca.pem)
    private(folder / "signer.key", pem_of_key(ca.key))
    script = folder / "sign"
    script.unlink(missing_ok=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "{folder.resolve()}"\n')
    script.chmod(0o755)
    return script.absolute()


def main() -> int:
    """Sign what comes on standard input."""
    sys.path.insert(0, str(ROOT))
    from tests.lab.ca import CA

    folder = Path(sys.argv[1])
    ca = CA.stored((folder / "signer.pem").read_bytes(), (folder / "signer.key").read_bytes())
    sys.stdout.write(ca.sign(sys.stdin.buffer.read()).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
