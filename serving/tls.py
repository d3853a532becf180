"""TLS and mutual TLS, by the SSLConfig file of TensorFlow Serving."""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import text_protos
from serving.errors import FlagError


@dataclass(frozen=True, kw_only=True)
class Tls:
    """PEM texts: the server's key, its certificate chain, and who signs clients' certificates."""

    key: str
    certificate: str
    client_authority: str = ""
    verify_clients: bool = False


def read(path: Path) -> Tls:
    """Read an SSLConfig in protobuf text format.

    Raises:
        FlagError: it doesn't parse, key or certificate is missing or no PEM, they don't belong together, or
            clients are to be verified by nobody.
    """
    config = text_protos.read(path, "SSLConfig")
    tls = Tls(
        key=config.server_key,
        certificate=config.server_cert,
        client_authority=config.custom_ca,
        verify_clients=config.client_verify,
    )
    if not (tls.key and tls.certificate):
        raise FlagError(f"--ssl_config_file={path}: server_key and server_cert must be given, as PEM texts")
    if tls.verify_clients and not tls.client_authority:
        raise FlagError(f"--ssl_config_file={path}: client_verify needs custom_ca, who signs the clients")
    try:
        context(tls)
    except (ssl.SSLError, ValueError) as error:
        raise FlagError(f"--ssl_config_file={path}: {error}") from error
    return tls


def context(tls: Tls) -> ssl.SSLContext:
    """Return what Python's own servers need."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Python takes a key from files only; the folder is the user's alone.
    with tempfile.TemporaryDirectory(prefix="fitserve-tls-") as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        key.write_text(tls.key, encoding="ascii")
        certificate.write_text(tls.certificate, encoding="ascii")
        made.load_cert_chain(certificate, key, password=_no_password)
    if tls.client_authority:
        made.load_verify_locations(cadata=tls.client_authority)
    if tls.verify_clients:
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def envoy_socket(tls: Tls) -> dict[str, Any]:
    """Return the transport socket of Envoy's filter chain.

    Any: it is a JSON document of Envoy's.
    """
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificates": [
            {
                "private_key": {"inline_string": tls.key},
                "certificate_chain": {"inline_string": tls.certificate},
            }
        ],
    }
    if tls.verify_clients:
        common["validation_context"] = {"trusted_ca": {"inline_string": tls.client_authority}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
            "require_client_certificate": tls.verify_clients,
        },
    }


def _no_password() -> str:
    # Without it OpenSSL would ask on the terminal.
    raise ValueError("server_key is encrypted; give it without a password")
