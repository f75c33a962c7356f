"""What the machine's environment says about the network: which certificates to trust, and which proxy to take.

One answer for every client of an endpoint, whatever library makes the connection.
"""

import ipaddress
import os
import re
import ssl
import urllib.request
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import truststore

from rag_app.endpoints.endpoint import address
from rag_app.errors import SettingsError
from rag_app.words import joined, msg

# Each names a file or folder of certificates; the first is that of Python, the others those of requests and curl.
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROXIES = ("http", "https", "socks5", "socks5h")


def options(url: str) -> dict[str, Any]:
    """Return what an HTTP client needs for one URL: `verify`, `proxy` and `trust_env`. SettingsError if it cannot be used."""
    # Who speaks plain HTTP, as the built-in models do, is not stopped by a variable about certificates.
    named = [os.environ.get(name, "") if url.startswith("https:") else "" for name in TRUST]
    return {"verify": trusted(tuple(named)), "proxy": proxy(url), "trust_env": False}


@lru_cache(maxsize=4)
def trusted(paths: tuple[str, ...]) -> ssl.SSLContext:
    """Return the one trust: the system's store, the one that comes with Python packages, and what TRUST names."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    for name, path in zip(TRUST, paths, strict=True):
        try:
            # OpenSSL takes several folders.
            for where in map(Path, filter(None, path.split(os.pathsep) if name == "SSL_CERT_DIR" else [path])):
                context.load_verify_locations(capath=where) if where.is_dir() else context.load_verify_locations(where)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                msg("{name}={path} cannot be read ({reason})", name=name, path=path, reason=error),
                msg("name a PEM file of certificates, or unset it"),
            ) from None
    return context


def proxy(url: str) -> str | None:
    """Return the proxy of the environment for a URL, or None: loopback never has one, nor what NO_PROXY names."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = urllib.request.getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or _is_loopback(host) or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]) or _in_no_proxy(host):
        return None
    # Some write a proxy as host:port.
    found = found if "://" in found else f"http://{found}"
    try:
        sound = urlsplit(found).scheme in PROXIES and bool(urlsplit(found).hostname) and urlsplit(found).port != 0
    except ValueError:
        sound = False
    if not sound:
        raise SettingsError(
            msg("the environment's proxy {proxy} cannot be used (ALL_PROXY, HTTPS_PROXY or HTTP_PROXY)", proxy=address(found)),
            msg("write it as one of {schemes}://HOST:PORT, or unset it", schemes=joined(", ", PROXIES)),
        )
    return found


def _is_loopback(host: str) -> bool:
    host = host.rstrip(".")
    with suppress(ValueError):
        # What vLLM prints as its address, 0.0.0.0, is this machine too.
        at = ipaddress.ip_address(host)
        at = (at.ipv4_mapped if isinstance(at, ipaddress.IPv6Address) else None) or at
        return at.is_loopback or at.is_unspecified
    return host == "localhost" or host.endswith(".localhost") or re.fullmatch(r"127(\.\d+){1,2}", host) is not None


def _in_no_proxy(host: str) -> bool:
    """Whether NO_PROXY names a network that an address is in, which Python's own reading leaves out."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    with suppress(ValueError):
        at = ipaddress.ip_address(host)
        for entry in named.split(","):
            with suppress(ValueError):
                if at in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                    return True
    return False
