"""Stores in S3-compatible object storage; the only module that imports ``obstore``.

``obstore`` is the same Rust client (``object_store``) that LanceDB has inside, so both understand the same
``AWS_*`` variables, and it has the conditional writes that the lock needs. Both are told the endpoint, the
region and the limits of time here; credentials each finds by itself, in the variables or from the machine's
role. A profile of ``~/.aws`` is none of what ``obstore`` reads.

Sources: docs.lancedb.com/storage/configuration for LanceDB's options,
developmentseed.org/obstore/latest/api/store/aws for the variables.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from index.errors import BackendMissingError, CatalogError
from index.files import user_cache_folder
from index.lease import LEASE_SECONDS, Lease, Seen
from index.places import Place

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
    from obstore.store import S3Store
except ModuleNotFoundError as error:
    raise BackendMissingError(
        f"a store in object storage needs a package that is not installed ({error}): "
        "pip install 'program-matcher[s3]'"
    ) from error

if TYPE_CHECKING:
    from obstore.store import S3Config

CONNECT_SECONDS, REQUEST_SECONDS = 3, 30
#: A server that is busy or away for a moment is asked again; what is gone is given up within seconds.
RETRIES, RETRY_SECONDS = 3, 20
#: What both clients write into a request as it is; others each escapes in its own way.
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]+)((?:/[A-Za-z0-9_!.'()=+@,:-]+)*)/*")
_CLOCK, _LOCK, _MARK = "write.clock", "write.lock", "store.json"
#: What a failed request says of itself, and what to do; the first that fits counts.
_REASONS = (
    (r"NoSuchBucket", "there is no such bucket", "Make the bucket, or use another --store"),
    (
        r"169\.254\.|metadata endpoint|CredentialsNotLoaded|no providers in chain",
        "there are no credentials",
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r"PermanentRedirect|AuthorizationHeaderMalformed|status code: 301|missing region",
        "the bucket is in another region",
        "Set AWS_REGION to that of the bucket",
    ),
    (
        r"status code: 40[13]|status: 40[13]|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch",
        "access is denied",
        "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and what they may do there",
    ),
    (
        r"error sending request|kind: (?:Connect|Timeout)|[Tt]imed out|status code: 5\d\d|status: 5\d\d",
        "it cannot be reached",
        "Check AWS_ENDPOINT_URL and the network, and run the same command again",
    ),
)
#: How LanceDB's errors say that they are the storage's.
_OF_STORAGE = re.compile(r"\bS3\b|RetryError|non-2xx status code|__manifest|[Cc]redentials")


class ObjectPlace(Place):
    """A prefix of a bucket.

    Args:
        bucket: Its name.
        prefix: Without slashes around it; "" for the whole bucket.
        environment: Where ``AWS_*`` variables are looked up.
        lease_seconds: How long the lock of a writer that was killed keeps others out.

    Raises:
        CatalogError: The variables name an endpoint that is none.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        environment: Mapping[str, str] = os.environ,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._lease_seconds = lease_seconds
        self._address = f"s3://{bucket}/{prefix}".rstrip("/")
        self.tables = f"{self._address}/tables"
        self._endpoint = _first(environment, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
        if self._endpoint and not re.match(r"https?://[^/]", self._endpoint):
            # Its client would panic.
            raise CatalogError(
                f"the store {self}: AWS_ENDPOINT_URL is {self._endpoint!r}, not https://HOST or http://HOST:PORT"
            )
        region = _first(environment, "AWS_REGION", "AWS_DEFAULT_REGION")
        if not region and self._endpoint:
            region = "us-east-1"  # others than AWS mostly have one region and want it signed as this
        is_plain = self._endpoint.startswith("http://") or _is_set(environment, "AWS_ALLOW_HTTP")
        config: S3Config = {}
        if self._endpoint:
            config["endpoint"] = self._endpoint
        if region:
            config["region"] = region
        self.storage_options = {
            **{name: str(value) for name, value in config.items()},
            "allow_http": str(is_plain).lower(),
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "timeout": f"{REQUEST_SECONDS}s",
            "client_max_retries": str(RETRIES),
            "client_retry_timeout": str(RETRY_SECONDS),
        }
        with self.explained():
            self._objects = S3Store(
                bucket,
                prefix=prefix or None,
                config=config,
                client_options={
                    "allow_http": is_plain,
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "timeout": timedelta(seconds=REQUEST_SECONDS),
                },
                retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
            )

    @classmethod
    def of(cls, address: str, *, lease_seconds: float = LEASE_SECONDS) -> ObjectPlace:
        """The place at ``s3://BUCKET/PREFIX``.

        Raises:
            CatalogError: It is no such address.
        """
        parts = _ADDRESS.fullmatch(address)
        if parts is None or {".", ".."} & set(parts[2].split("/")):
            raise CatalogError(
                f"the store {address} is not at an address s3://BUCKET/PREFIX of letters, digits and "
                "-_.!'()=+@,: alone. Use another --store."
            )
        return cls(parts[1], parts[2].strip("/"), lease_seconds=lease_seconds)

    def __str__(self) -> str:
        return self._address

    @property
    def full_name(self) -> str:
        """The address; not where the bucket is."""
        return self._address

    def name_of(self, name: str) -> str:
        """Its address."""
        return f"{self._address}/{name}"

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None where there is none."""
        seen = self._seen(name)
        return None if seen is None else seen.content

    def write(self, name: str, content: bytes) -> None:
        """Replace an object."""
        with self.explained():
            obstore.put(self._objects, name, content, use_multipart=False)

    def entries(self) -> list[str]:
        """Names of the objects and folders right below the prefix."""
        with self.explained():
            found = obstore.list_with_delimiter(self._objects)
        names = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return [name.strip("/").rsplit("/")[-1] for name in names]

    def make(self) -> None:
        """Nothing to do: there are no folders."""

    def size(self, part: str = "") -> int:
        """Bytes of all objects below the prefix, or below one folder there."""
        with self.explained():
            return sum(each["size"] for batch in obstore.list(self._objects, part or None) for each in batch)

    def cache_root(self) -> Path:
        """A folder of the user's cache, for this very store.

        A store that was deleted and made anew, or one of the same name at another endpoint, gives its
        programs the same numbers; so the folder is also named by what is in ``store.json``.
        """
        identity = [self._endpoint, self._address, (self.read(_MARK) or b"").decode(errors="replace")]
        return user_cache_folder() / hashlib.sha256(repr(identity).encode()).hexdigest()[:32]

    def lock(self) -> Lease:
        """A lease in the object ``write.lock``."""
        return Lease(_LockCell(self), str(self), seconds=self._lease_seconds)

    def same_as(self, other: Place) -> bool:
        """Whether both are at one address of one endpoint."""
        return isinstance(other, ObjectPlace) and (self._endpoint, self._address) == (
            other._endpoint,
            other._address,
        )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what a failing storage raises, here or in LanceDB, into a line that says what to do."""
        try:
            yield
        except BaseError as error:
            raise CatalogError(self._line(str(error)) or self._named(str(error))) from error
        except (OSError, RuntimeError, ValueError) as error:
            line = self._line(str(error)) if _OF_STORAGE.search(str(error)) else None
            if line is None:
                raise  # nothing about the storage: a file that a compaction took away, say
            raise CatalogError(line) from error

    # ------------------------------------------------------------ inside

    def _line(self, said: str) -> str | None:
        """What to say of a failure, where it is of a known sort."""
        for pattern, what, remedy in _REASONS:
            if re.search(pattern, said):
                return self._named(f"{what}. {remedy}.")
        return None

    def _named(self, said: str) -> str:
        at = f" at {self._endpoint}" if self._endpoint else ""
        return f"the store {self}{at}: {said.splitlines()[0][:300]}"

    def _seen(self, name: str) -> Seen | None:
        with self.explained():
            try:
                found = obstore.get(self._objects, name)
                return Seen(bytes(found.bytes()), str(found.meta["e_tag"]))
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None


class _LockCell:
    """The object ``write.lock``; its tag is S3's ETag."""

    def __init__(self, place: ObjectPlace) -> None:
        self._place = place

    def read(self) -> Seen | None:
        return self._place._seen(_LOCK)

    def write(self, content: bytes, tag: str | None) -> str | None:
        place = self._place
        with place.explained():
            try:
                done = obstore.put(
                    place._objects,
                    _LOCK,
                    content,
                    mode="create" if tag is None else {"e_tag": tag},
                    use_multipart=False,
                )
            except (AlreadyExistsError, PreconditionError):
                return None
        return str(done["e_tag"])

    def age_seconds(self) -> float:
        """The time of a write of now, of an object that is for nothing else, less that of the lock's."""
        place = self._place
        place.write(_CLOCK, b"")
        with place.explained():
            now, then = (obstore.head(place._objects, name)["last_modified"] for name in (_CLOCK, _LOCK))
        return (now - then).total_seconds()


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _is_set(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ("1", "true", "yes", "on")
