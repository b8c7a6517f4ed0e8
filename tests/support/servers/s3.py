"""What a test needs to know of an S3 server, whichever it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import botocore.session
from botocore.config import Config

from tests.support.servers.processes import Process


@dataclass
class S3Server:
    """A running S3 service. `processes` are by role, so that a test can hang or kill one."""

    name: str
    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    processes: dict[str, Process] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def environment(self) -> dict[str, str]:
        """The usual AWS environment, as the gateway reads its keys."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self) -> Any:
        """Make a blocking client, for looking behind the gateway's back."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"total_max_attempts": 3},
            ),
        )

    def create_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        bucket = f"bucket-{next(self._numbers)}"
        client = self.client()
        client.create_bucket(Bucket=bucket)
        client.close()
        return bucket

    def storage_url(self, bucket: str, prefix: str = "") -> str:
        """Write the `storage` setting that names a bucket of this server."""
        return f"s3://{bucket}/{prefix}?endpoint_url={self.endpoint_url}&region={self.region}"

    def stop(self) -> None:
        """Stop every process; those that hold data end last."""
        for process in self.processes.values():
            process.stop()
