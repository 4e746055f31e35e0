"""Certificates for tests of TLS: an authority of their own, and what it signs.

::

    from caraway.testing.certificates import Authority

    authority = Authority(tmp_path)
    server = authority.sign("broker", "127.0.0.1", "localhost")
    client = authority.sign("client")
    config = [
        f"ssl_options.cacertfile = {authority.certificate}",
        f"ssl_options.certfile = {server.certificate}",
        f"ssl_options.keyfile = {server.key}",
    ]

Made by the program ``openssl``; they are good for two days.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from msgspec import Struct

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Signed(Struct, frozen=True):
    """A certificate and its key, in PEM.

    Attributes:
        certificate: its file.
        key: its key's file.
    """

    certificate: Path
    key: Path


class Authority:
    """Signs certificates.

    Args:
        folder: for the files; made if need be.
        name: of the authority.

    Attributes:
        certificate: file of its own certificate, which is what those who trust it need.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_KEY, "-keyout", self._key, "-out", self.certificate,
            "-days", "2", "-subj", f"/CN=caraway test {name}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def sign(self, name: str, *hosts: str) -> Signed:
        """A new certificate.

        Args:
            name: its common name, and that of its files.
            hosts: names and addresses of a server; a client has none.
        """
        made = Signed(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        names = ",".join(f"{'IP' if each[:1].isdigit() else 'DNS'}:{each}" for each in hosts)
        extensions.write_text(
            "basicConstraints=CA:FALSE\n"
            f"extendedKeyUsage={'serverAuth' if hosts else 'clientAuth'}\n"
            + (f"subjectAltName={names}\n" if hosts else "")
        )
        _openssl("req", *_KEY, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", made.certificate,
        )  # fmt: skip
        return made


def _openssl(*arguments: str | Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)  # noqa: S603, S607
    except FileNotFoundError:
        raise AssertionError(
            "openssl not found: apt-get install openssl, or brew install openssl"
        ) from None
    except subprocess.CalledProcessError as exc:
        raise AssertionError(f"openssl: {exc.stderr.decode(errors='replace')}") from None
