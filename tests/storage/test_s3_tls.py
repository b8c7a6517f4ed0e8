from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.errors import CannotStart, StorageFault
from tests.storage.faulty import DATA, KEY, grant, opened
from tests.support.s3_faults import FaultyS3, close_after, reset_after
from tests.support.storage import get


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and a certificate for loopback that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(encoded + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[FaultyS3]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = FaultyS3(objects={KEY: DATA})
    await server.start(context)
    yield server
    await server.stop()


async def test_reads_go_over_tls_with_faults_as_without(secure: FaultyS3, certificate: Path) -> None:
    async with opened(secure, ca_file=str(certificate)) as storage:
        secure.faults.extend([reset_after(100_000), close_after(50_000)])
        for _ in range(3):
            assert await get(storage, grant(), range(len(DATA))) == DATA
        async with storage.read(grant(), range(len(DATA))) as buffers:
            await anext(buffers)
        assert await get(storage, grant(), range(9)) == DATA[:9]


async def test_a_certificate_that_nobody_vouches_for_is_refused(secure: FaultyS3) -> None:
    with pytest.raises(StorageFault):
        async with opened(secure, attempts=1):
            pytest.fail("it was opened")
    assert secure.gets == []


async def test_a_ca_file_that_is_none_does_not_start(secure: FaultyS3, tmp_path: Path) -> None:
    for ca_file in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(CannotStart, match=r"^s3\.ca_file: "):
            async with opened(secure, ca_file=str(ca_file)):
                pytest.fail("it was opened")
