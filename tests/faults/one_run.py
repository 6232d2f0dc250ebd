"""A run with faults, fully determined by a number."""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from random import Random
from unittest.mock import patch

from faults.changing import CHANGES
from faults.kinds import KINDS, Kind, Moment
from faults.reading import READINGS, Clean, Reading
from faults.verdict import Ending, Judgement
from faults.web import PAGES, PANELS
from faults.world import LOGIN, WRITES, Exchange, Injection, World

LASTING = 1_000

SUBJECTS: Mapping[str, Sequence[Reading]] = {"reading": (*READINGS, *PANELS), "writing": CHANGES, "pages": PAGES}
"""What faults can affect: commands that read, commands that write, and the desk's pages, which do both."""


@dataclass(frozen=True)
class Verdict:
    seed: int
    subject: Reading
    injections: tuple[Injection, ...]
    hit: tuple[str, ...]
    judgement: Judgement

    @property
    def kind(self) -> Kind:
        return self.injections[0].kind

    @property
    def ending(self) -> Ending:
        return self.judgement.ending

    @property
    def cause(self) -> str:
        """The cause, equal for runs that fail at the same place."""
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
    def __init__(self, world: World, subjects: Sequence[Reading] = (*READINGS, *PANELS, *CHANGES * 3)) -> None:
        """Without the pages unless asked for, because existing numbers would mean other runs."""
        self.world = world
        self._subjects = subjects

    @cached_property
    def _clean(self) -> Mapping[Reading, Clean]:
        return {subject: subject.clean(self.world) for subject in self._subjects}

    def run(self, seed: int) -> Verdict:
        verdict = self._run(seed, 1.0)
        if not verdict.ending.is_well and any(injection.kind.late for injection in verdict.injections):
            # On a busy machine more than the late answer may have timed out: decide with a longer timeout.
            verdict = self._run(seed, 4.0)
        return verdict

    def _run(self, seed: int, timeout: float) -> Verdict:
        """Make the run of a number, with this timeout of the gateway in seconds if an answer is late."""
        clean_runs = self._clean
        chance = Random(seed)
        subject = chance.choice(self._subjects)
        clean = clean_runs[subject]
        injections = tuple(self._injections(chance, clean.exchanges))
        world = self.world
        world.hit.clear()
        late = any(injection.kind.late for injection in injections)
        with patch.multiple(world, seconds=timeout, grace=timeout / 2) if late else nullcontext():
            judgement = subject.run(world, clean, list(injections), chance)
        verdict = Verdict(seed, subject, injections, tuple(world.hit), judgement)
        if not subject.is_refused and _ought_to_pass(verdict) and verdict.ending is Ending.ERROR:
            judgement.add(Ending.NOT_REPEATED, "; ".join(detail for _, detail in judgement.found))
        return verdict

    def _injections(self, chance: Random, exchanges: Sequence[Exchange]) -> list[Injection]:
        count = chance.choices((1, 2, 3), (8, 2, 1))[0]
        self.world.bank.earlier[:] = [answer.body for call, answer in exchanges if call.method]
        return [self._injection(chance, exchanges) for _ in range(count)]

    def _injection(self, chance: Random, exchanges: Sequence[Exchange]) -> Injection:
        """Choose a fault that has an effect on one of the calls, preferably on one that writes."""
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
        return kind.alter is None or kind.alter(Moment(Random(0), *exchange, self.world.bank)) is not None


def _ought_to_pass(verdict: Verdict) -> bool:
    """Return whether the only fault was one failure of a read, which a retry overcomes."""
    (first, *others) = verdict.injections
    return not others and first.kind.passes and first.times == 1 and not set(verdict.hit) & {*WRITES, LOGIN}
