"""kombu's SQS transport, mended: with kombu 5.7 a queue can't be purged, and so not deleted
either, a second time within a minute."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Not typed, all of it.
kombus: Any = import_module("kombu.transport.SQS")
ClientError: Any = import_module("botocore.exceptions").ClientError


class Channel(kombus.Channel):  # type: ignore[misc]
    """kombu's channel, which empties a queue by hand where SQS refuses to."""

    def _purge(self, queue: str) -> int:
        url = self._new_queue(queue)
        size = int(self._size(queue))
        client = self.sqs(queue=self.canonical_queue_name(queue))
        try:
            client.purge_queue(QueueUrl=url)
        except ClientError as exc:
            if "PurgeQueueInProgress" not in str(exc.response.get("Error", {}).get("Code", "")):
                raise
            while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get(
                "Messages"
            ):
                for each in found:
                    client.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        return size


class Transport(kombus.Transport):  # type: ignore[misc]
    """kombu's transport with the mended channel."""

    Channel = Channel
