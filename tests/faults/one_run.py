"""One run with faults, all of it decided by a number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from faults.changing import CHANGES
from faults.kinds import KINDS, Kind
from faults.pages import PAGES
from faults.panel import PANELS
from faults.reading import READINGS, Clean, Reading
from faults.verdict import Ending, Judgement
from faults.world import LOGIN, WRITES, Exchange, Injection, World

LASTING = 1_000

SUBJECTS: Mapping[str, Sequence[Reading]] = {"reading": (*READINGS, *PANELS), "writing": CHANGES, "pages": PAGES}
"""What a bad network may befall: what reads, what writes, and the desk's pages, which do both."""


@dataclass(frozen=True)
class Verdict:
    """How the run of a seed ended."""

    seed: int
    subject: Reading
    injections: tuple[Injection, ...]
    hit: tuple[str, ...]
    judgement: Judgement

    @property
    def kind(self) -> Kind:
        """The kind of fault that it is about."""
        return self.injections[0].kind

    @property
    def ending(self) -> Ending:
        """What it comes to."""
        return self.judgement.ending

    @property
    def cause(self) -> str:
        """What it may be laid to, the same for runs that fail at the same place."""
        if self.ending.is_well:
            return ""
        if self.ending is Ending.TRACEBACK:
            places = re.findall(r'/(evergreen_groups/[\w/]+\.py)", line \d+, in (\w+)', self.judgement.detail)
            return f"{self.ending.value}: {':'.join(places[-1]) if places else 'unknown'}"
        return f"{self.ending.value}: {self.subject.name}, {', '.join(it.kind.name for it in self.injections)}"

    def __str__(self) -> str:
        faults = "; ".join(map(str, self.injections))
        where = ", ".join(dict.fromkeys(method or "the IDL" for method in self.hit)) or "nothing"
        return f"seed {self.seed}: {self.subject}\n  {faults}\n  hit {where}\n  {self.judgement.detail}"


class Runner:
    """Makes runs in one world."""

    def __init__(self, world: World, subjects: Sequence[Reading] = (*READINGS, *PANELS, *CHANGES * 3)) -> None:
        """The pages aren't among ``subjects`` unless asked for, so that each number stands for the run that it was."""
        self.world = world
        self._subjects = subjects

    @cached_property
    def _clean(self) -> Mapping[Reading, Clean]:
        return {subject: subject.clean(self.world) for subject in self._subjects}

    def run(self, seed: int) -> Verdict:
        """The run that a number stands for."""
        clean_runs = self._clean
        chance = Random(seed)
        subject = chance.choice(self._subjects)
        clean = clean_runs[subject]
        injections = tuple(self._injections(chance, clean.exchanges))
        world = self.world
        world.seconds, world.grace = (0.04, 0.06) if any(it.kind.late for it in injections) else (20.0, 5.0)
        world.hit.clear()
        judgement = subject.run(world, clean, list(injections), chance)
        world.seconds, world.grace = 20.0, 5.0
        verdict = Verdict(seed, subject, injections, tuple(world.hit), judgement)
        if clean.is_answered and _ought_to_pass(verdict) and verdict.ending is Ending.ERROR:
            judgement.add(Ending.NOT_REPEATED, "; ".join(detail for _, detail in judgement.found))
        return verdict

    def _injections(self, chance: Random, exchanges: Sequence[Exchange]) -> list[Injection]:
        count = chance.choices((1, 2, 3), (8, 2, 1))[0]
        self.world.bank.earlier[:] = [answer.body for call, answer in exchanges if call.method]
        return [self._injection(chance, exchanges) for _ in range(count)]

    def _injection(self, chance: Random, exchanges: Sequence[Exchange]) -> Injection:
        """A fault that makes a difference to one of the calls, rather to one that writes."""
        numbers = list(range(1, len(exchanges) + 1))
        while True:
            kind = chance.choice(KINDS)
            chance.shuffle(numbers)
            if chance.random() < 0.4:
                numbers.sort(key=lambda number: exchanges[number - 1][0].method not in WRITES)
            at = next((number for number in numbers if self._makes_a_difference(kind, exchanges[number - 1])), None)
            if at is not None:
                break
        times = 1 if kind.late else chance.choices((1, 2, LASTING), (6, 2, 2))[0]
        return Injection(kind, at, times, exchanges[at - 1][0].method if chance.random() < 0.3 else None)

    def _makes_a_difference(self, kind: Kind, exchange: Exchange) -> bool:
        if kind.method is not None and kind.method != exchange[0].method:
            return False
        return kind.alter is None or kind.alter(Random(0), *exchange, self.world.bank) is not None


def _ought_to_pass(verdict: Verdict) -> bool:
    """Whether there was one failure that passes, of one read."""
    (first, *others) = verdict.injections
    return not others and first.kind.passes and first.times == 1 and not set(verdict.hit) & {*WRITES, LOGIN}
