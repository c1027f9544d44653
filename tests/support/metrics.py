"""The text of /metrics as numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.support import leaks
from tests.support.http import Answer, request
from tests.support.server import Server

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and sorted labels of a sample."""


@dataclass(frozen=True)
class Scrape:
    """Attributes:
    types: name of each family as it is written behind TYPE, and its type.
    """

    samples: dict[Series, float]
    types: dict[str, str]

    def value(self, name: str, **labels: str) -> float:
        """Of one series; 0 where it is not there."""
        return self.samples.get((name, tuple(sorted(labels.items()))), 0.0)

    def labels(self, name: str) -> list[dict[str, str]]:
        """Of every series of a name."""
        return [dict(labels) for found, labels in self.samples if found == name]

    def total(self, names: Iterable[str]) -> float:
        return sum(value for (name, _), value in self.samples.items() if name in names)


def parsed(text: str) -> Scrape:
    """What a text says; AssertionError where a series stands there twice."""
    leaks.wrote("metrics", text)
    samples: dict[Series, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = (sample.name, tuple(sorted(sample.labels.items())))
            assert series not in samples, f"{series} stands there twice"
            samples[series] = sample.value
    types = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE ")}
    return Scrape(samples, types)


@dataclass(frozen=True)
class OperationsSite:
    """The operations listener of a server, as somebody to send requests to."""

    address: tuple[str, int] | str
    prefix: str = "/"
    secret: str = ""


def ask(server: Server, target: str = "/metrics", method: str = "GET") -> Answer:
    """One request to the operations listener."""
    answer = request(OperationsSite(server.operations), method, target)
    leaks.wrote(f"{method} {target}", answer.body)
    return answer


def scrape(server: Server) -> Scrape:
    """What /metrics says now."""
    answer = ask(server)
    assert answer.status == 200, answer.body
    return parsed(answer.body.decode())
