"""The record of truth: what was asked, who works on it, what came out. Redis may be lost; this may not."""

from __future__ import annotations

from service.records.aliases import Alias, AliasRecords
from service.records.claims import Beat, Claim, Claims
from service.records.database import Database
from service.records.datasets import Dataset, DatasetRecords
from service.records.jobs import JobFilter, JobRecords, QueuePlace
from service.records.recovery import Recovery
from service.records.telling import ChildEvent
from service.records.versions import PublishedVersion, VersionRecords
from service.records.workers import WorkerRecords

__all__ = [
    "Alias",
    "Beat",
    "ChildEvent",
    "Claim",
    "Database",
    "Dataset",
    "JobFilter",
    "PublishedVersion",
    "QueuePlace",
    "Records",
]


class Records:
    """The tables of one database, each with the moves it allows."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.jobs = JobRecords(self.database)
        self.claims = Claims(self.database)
        self.recovery = Recovery(self.database)
        self.datasets = DatasetRecords(self.database)
        self.versions = VersionRecords(self.database)
        self.aliases = AliasRecords(self.database)
        self.workers = WorkerRecords(self.database)

    def close(self) -> None:
        """Give the connections back."""
        self.database.close()
