"""Certificates for servers of tests, signed by an authority that a test makes."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from common.clock import utc_now

A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """Somebody who signs certificates; `pem` is what those who trust them have."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str) -> tuple[bytes, bytes]:
        """Return a certificate for host names and addresses, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(names[0], issuer=self.certificate.subject)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made.public_bytes(serialization.Encoding.PEM), pem


def make_authority(name: str) -> Authority:
    """Return a new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        _begun(name, issuer=subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, made)


def _begun(name: str, *, issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - A_DAY)
        .not_valid_after(utc_now() + A_DAY)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class CertificateFiles:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class FiledAuthority:
    """An authority that keeps what it signs in a folder; `file` is what those who trust it are given."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._authority = make_authority(name)
        self.file = folder / f"{name}.crt"
        self.file.write_bytes(self._authority.pem)

    def server(self, *names: str) -> CertificateFiles:
        """Return a certificate for a server of these names or addresses."""
        stem = self._folder / f"server-{names[0]}"
        files = CertificateFiles(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        certificate, key = self._authority.issue(*names)
        files.certificate.write_bytes(certificate)
        files.key.write_bytes(key)
        files.key.chmod(0o600)
        return files
