"""Whom to trust as B2: the files of certificate authorities, and the TLS that follows from them."""

import ssl
from collections.abc import Mapping, Sequence


def authorities(ca_file: str | None, environment: Mapping[str, str]) -> list[str]:
    """Name whom to trust: certifi's file, or REQUESTS_CA_BUNDLE's or SSL_CERT_FILE's; and *ca_file*."""
    import certifi

    base = environment.get("REQUESTS_CA_BUNDLE") or environment.get("SSL_CERT_FILE") or certifi.where()
    return [base, ca_file] if ca_file is not None else [base]


def tls_context(files: Sequence[str]) -> ssl.SSLContext:
    """Trust the authorities in these files."""
    context = ssl.create_default_context(cafile=files[0])
    for file in files[1:]:
        context.load_verify_locations(cafile=file)
    return context
