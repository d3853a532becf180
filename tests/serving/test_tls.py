"""TLS and mutual TLS from outside, on every front, with certificates made here."""

import datetime as dt
import json
import signal
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving import tls
from serving.errors import FlagError
from tests.serving.asking import FRONT, leave, ones, predict_request

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass
class Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self):
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def pair(name, signer=None):
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signing_key = (signer.key if signer else key).public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.certificate.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key), critical=False)
        .sign(signer.key if signer else key, hashes.SHA256())
    )
    return Pair(key, certificate)


AUTHORITY = pair("authority")
SERVER, CLIENT = pair("localhost", AUTHORITY), pair("client", AUTHORITY)


def config(path, key=SERVER, certificate=SERVER, authority="", verify=False):
    path.write_text(
        f"server_key: {json.dumps(key.key_pem.decode())}\n"
        f"server_cert: {json.dumps(certificate.pem.decode())}\n"
        f"custom_ca: {json.dumps(authority)}\n"
        f"client_verify: {str(verify).lower()}\n"
    )
    return path


@pytest.fixture(scope="module", params=FRONT)
def server(request, saved_models, place, start_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    place(saved_models / "sum" / "1", folder / "sum" / "1")
    file = config(folder / "ssl.config", authority=AUTHORITY.pem.decode(), verify=True)
    started = start_server(
        f"--model_base_path={folder / 'sum'}",
        "--model_name=sum",
        f"--ssl_config_file={file}",
        chosen=request.param,
        wait=False,
    )
    started.wait_until(lambda: _is_up(started), 60)
    yield started
    leave(started, signal.SIGTERM, 5)


def _is_up(server):
    try:
        return get(server, CLIENT) == 200
    except OSError:
        return False


def predict(server, client):
    pems = (client.key_pem, client.pem) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(AUTHORITY.pem, *pems)
    with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
        body = predict_request("sum", a=ones(), b=ones()).SerializeToString()
        return channel.unary_unary(PREDICT)(body, timeout=5)


def get(server, client):
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    if client:
        folder = server.log.parent
        (folder / "client.pem").write_bytes(client.key_pem + client.pem)
        context.load_cert_chain(folder / "client.pem")
    url = f"https://localhost:{server.rest_port}/v1/models/sum"
    with urllib.request.urlopen(url, timeout=5, context=context) as reply:
        return reply.status


def test_a_client_with_a_certificate_is_answered_over_grpc_and_http(server):
    assert predict(server, CLIENT)
    assert get(server, CLIENT) == 200


@pytest.mark.parametrize("client", [None, pair("stranger")], ids=["none", "of another authority"])
def test_a_client_without_a_certificate_of_the_authority_is_not_answered(server, client):
    with pytest.raises(grpc.RpcError) as caught:
        predict(server, client)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(OSError):
        get(server, client)


def test_plain_text_is_not_answered(server):
    with pytest.raises(grpc.RpcError):
        server.call("Predict", predict_request("sum", a=ones(), b=ones()), timeout_s=5)


def test_a_key_of_another_certificate_is_refused(tmp_path):
    with pytest.raises(FlagError, match=r"ssl\.config.*KEY_VALUES_MISMATCH|key values mismatch"):
        tls.read(config(tmp_path / "ssl.config", key=CLIENT))


def test_clients_can_not_be_verified_by_nobody(tmp_path):
    with pytest.raises(FlagError, match="client_verify needs custom_ca"):
        tls.read(config(tmp_path / "ssl.config", verify=True))


def test_a_file_without_a_key_is_refused(tmp_path):
    (tmp_path / "ssl.config").write_text("client_verify: false")

    with pytest.raises(FlagError, match="server_key and server_cert must be given"):
        tls.read(tmp_path / "ssl.config")
