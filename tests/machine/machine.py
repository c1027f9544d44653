"""The state machine: any request in any order, a model beside the server, and what must hold after every step.

What a rule draws is small and means something: a place relative to where the upload stands, a share of the body, one of
the tokens that there are. So a failing example shrinks to a few requests that a person can read.
"""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.machine.model import MOST_SESSIONS, TTL, Expected, Is, May, Model, Upload
from tests.machine.resources import Resources
from tests.machine.sessions import SPELLINGS, Checksums, Sessions
from tests.machine.wire import NOTHING, Body, Driver, Request, Slot, body, slot_url

TOTALS = (0, 1, 7, 4096 + 1, 70_000)
TYPES = ("application/x-first", "image/png")
MOST_GAPS = 3
"""The bound on gaps, lowered from 1,024 so that a few pieces reach it."""

slots = st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from((0, 0, 0, 1)))
picks = st.integers(0, 9)
kills = st.integers(0, 9).flatmap(lambda luck: st.integers(0, 60) if luck > 7 else st.none())
flags = st.booleans()
shares = st.sampled_from((1, 0, 1 / 3, 1 / 2, 2, 3))
"""How much of what is missing a body brings; 2 and 3: so many bytes."""
cuts = st.sampled_from((None, None, None, 0, 1, 2, 0.5, 0.99))
"""Where a body breaks off: not at all, after so many bytes, after such a share."""
checksums = st.builds(
    Checksums,
    piece=st.sampled_from((None, None, None, True, False)),
    whole=st.sampled_from((None, None, None, True, False)),
    spelling=st.sampled_from(SPELLINGS),
)
whole_checksums = st.builds(
    Checksums, whole=st.sampled_from((None, None, True, False)), spelling=st.sampled_from(SPELLINGS)
)


class SlotMachine(RuleBasedStateMachine):
    """One server and its model; a subclass gives the server.

    Attributes:
        orders: values of ChunkingEnabled that it serves with.
        paths: of the two slots.
        own_tokens: that the client chooses.
    """

    orders: tuple[bool, ...] = (True, True, True, False)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.paths = ("one/file.bin", "another/place/file.bin")
        self.own_tokens = ("a-token-of-the-client-1", "a-token-of-the-client-2", "a-token-of-the-client-3")

    def driver_for(self, *, in_any_order: bool) -> Driver:
        raise NotImplementedError

    @initialize(totals=st.permutations(TOTALS), order=st.integers(0, 3))
    def begin(self, totals: list[int], order: int) -> None:
        self.totals = totals[:2]
        in_any_order = self.orders[order % len(self.orders)]
        self.driver = self.driver_for(in_any_order=in_any_order)
        self.model = Model(in_any_order=in_any_order, most_gaps=MOST_GAPS)
        self.sessions = Sessions(self.model)
        self.resources = Resources(self.model, self.sessions)

    # The session face, and plain PUTs

    @rule(which=slots, pick=picks, kill=kills)
    def ask(self, which: tuple[int, int, int], pick: int, kill: int | None) -> None:
        slot = self.slot(which)
        self.run(*self.sessions.ask(slot, self.token(pick)), kill, slot.path)

    @rule(which=slots, pick=picks, place=st.integers(0, 12), share=shares, cut=cuts, checks=checksums, kill=kills)
    def piece(
        self, which: Any, pick: int, place: int, share: float, cut: float | None, checks: Checksums, kill: int | None
    ) -> None:
        slot, token = self.slot(which), self.token(pick)
        if not slot.total:
            return
        offset = self.model.session(slot, token).content.least if token else 0
        places = (offset, 0, offset + 1, offset - 1, slot.total - 1, slot.total // 2, slot.total // 3, 4, 2, 4096)
        first = (places[place] if place < len(places) else slot.total * (place - 6) // 7) % slot.total
        length = max(1, self.length(share, slot.total - first))
        sent = self.body(length, cut, kill)
        self.run(*self.sessions.piece(slot, token, first, sent, checks), kill, slot.path)

    @rule(which=slots, pick=picks, cut=cuts, checks=checksums, kill=kills)
    def whole(self, which: Any, pick: int, cut: float | None, checks: Checksums, kill: int | None) -> None:
        slot = self.slot(which)
        sent = self.body(slot.total, cut, kill)
        self.run(*self.sessions.whole(slot, self.token(pick), sent, checks), kill, slot.path)

    @rule(which=slots)
    def get(self, which: Any) -> None:
        self.look(self.slot(which).path)

    @rule(which=slots, face=st.integers(0, 3))
    def unsigned(self, which: Any, face: int) -> None:
        """Whatever it is, it learns nothing and changes nothing."""
        slot, sent = self.slot(which), self.body(self.slot(which).total, None, None)
        request, _ = (
            self.sessions.ask(slot, self.own_tokens[0]),
            self.sessions.whole(slot, "", sent, Checksums()),
            self.resources.tus_create(slot, sent, Checksums()),
            self.resources.draft_put(slot, sent, Checksums(), is_last=False),
        )[face]
        bare = Request(request.method, slot_url(slot.path), request.headers, request.body)
        self.run(bare, Expected([May(403)]), None, slot.path)

    # tus and the draft

    @rule(which=slots, share=shares, cut=cuts, has_length=flags, checks=checksums, kill=kills)
    def tus_create(
        self, which: Any, share: float, cut: float | None, has_length: bool, checks: Checksums, kill: int | None
    ) -> None:
        slot = self.slot(which)
        sent = self.body(self.length(share, slot.total), cut, kill, has_length=has_length)
        self.run(*self.resources.tus_create(slot, sent, checks), kill, slot.path)

    @rule(which=slots, checks=whole_checksums)
    def tus_begin(self, which: Any, checks: Checksums) -> None:
        slot = self.slot(which)
        self.run(*self.resources.tus_create(slot, NOTHING, checks), None, slot.path)

    @rule(which=slots, share=shares, cut=cuts, has_length=flags, checks=checksums, last=flags, tells=flags, kill=kills)
    def draft_put(
        self,
        which: Any,
        share: float,
        cut: float | None,
        has_length: bool,
        checks: Checksums,
        last: bool,
        tells: bool,
        kill: int | None,
    ) -> None:
        slot = self.slot(which)
        sent = self.body(self.length(share, slot.total), cut, kill, has_length=has_length)
        expected = self.resources.draft_put(slot, sent, checks, is_last=last, declares=tells or not last)
        self.run(*expected, kill, slot.path)

    @rule(which=slots)
    def draft_begin(self, which: Any) -> None:
        slot = self.slot(which)
        self.run(*self.resources.draft_put(slot, NOTHING, Checksums(), is_last=False), None, slot.path)

    @precondition(lambda self: self.known())
    @rule(
        pick=picks,
        shift=st.sampled_from((0, 0, 0, 1, -1, 7)),
        share=st.one_of(shares, st.just(4.5)),
        cut=cuts,
        has_length=flags,
        checks=checksums,
        last=flags,
        kill=kills,
    )
    def patch(
        self,
        pick: int,
        shift: int,
        share: float,
        cut: float | None,
        has_length: bool,
        checks: Checksums,
        last: bool,
        kill: int | None,
    ) -> None:
        upload = self.resource(pick)
        total = upload.slot.total
        offset = min(max(0, upload.content.least + shift), total)
        sent = self.body(self.length(share, total - offset), cut, kill, has_length=has_length)
        self.run(*self.resources.patch(upload, offset, sent, checks, is_last=last), kill, upload.slot.path)

    @precondition(lambda self: self.known())
    @rule(pick=picks)
    def head(self, pick: int) -> None:
        upload = self.resource(pick)
        self.run(*self.resources.head(upload), None, upload.slot.path)

    @precondition(lambda self: self.known())
    @rule(pick=picks, kill=kills)
    def delete(self, pick: int, kill: int | None) -> None:
        upload = self.resource(pick)
        self.run(*self.resources.delete(upload), kill, upload.slot.path)

    # Time

    @rule(seconds=st.sampled_from((TTL * 2 // 5, TTL * 7 // 10, TTL * 3 // 2)))
    def wait(self, seconds: int) -> None:
        self.model.age(seconds)
        self.driver.age(seconds)

    # What must always hold

    @invariant()
    def nothing_but_published_files_lies_in_the_store(self) -> None:
        if not hasattr(self, "model"):
            return
        stored = self.stored()
        assert stored.keys() == self.model.files.keys()
        for path, content in stored.items():
            assert self.model.files[path].content.allows(content), f"{path} is not what was sent"

    @invariant()
    def a_slot_has_a_bounded_number_of_partials(self) -> None:
        if hasattr(self, "model"):
            for path in self.paths:
                assert self.driver.partial_files(path) <= MOST_SESSIONS

    # How

    def stored(self) -> dict[str, bytes]:
        return self.driver.stored()

    def run(self, request: Request, expected: Expected, kill: int | None, path: str) -> None:
        """One request, judged; and what is in doubt then, asked."""
        dropped = self.model.room(path) is not Is.SURELY
        before = [each for each in self.model.open_ones(path) if self.model.certainty(each) is Is.SURELY]
        answer = self.driver.send(request, kill)
        expected.meet(answer)
        if answer is None:
            # A killed worker may leave a file that counts for the slot until it is swept.
            self.model.leftovers[path] = self.model.leftovers.get(path, 0) + 1
            self.look(path)
        for upload in self.model.doubtful():
            face = self.sessions.ask(upload.slot, upload.secret) if upload.face == "session" else None
            question, answers = face or self.resources.head(upload)
            answers.meet(self.driver.send(question))
            if path in self.model.maybe_files:
                self.look(path)
        if dropped and path not in self.model.files and answer is not None:
            assert sum(1 for each in before if each.has_ended) <= 1, "more than one upload was dropped"

    def look(self, path: str) -> None:
        self.model.get(path).meet(self.driver.send(Request("GET", slot_url(path), [])))

    def slot(self, which: tuple[int, int, int]) -> Slot:
        path, total, kind = which
        return Slot(self.paths[path], self.totals[total], TYPES[kind])

    def token(self, pick: int) -> str:
        """None, the client's own, and those that the server gave."""
        given = [each.secret for each in self.model.uploads if each.face == "session" and each.secret]
        tokens = ["", *dict.fromkeys((*self.own_tokens, *given[-4:]))]
        return tokens[pick % len(tokens)]

    def known(self) -> list[Upload]:
        """Uploads whose resource the client knows, dead ones too."""
        return [each for each in self.model.uploads if each.face != "session" and each.secret][-5:]

    def resource(self, pick: int) -> Upload:
        known = self.known()
        return known[-1 - pick % len(known)]

    def length(self, share: float, missing: int) -> int:
        if share == 4.5:
            return missing + 2
        return min(missing, int(share)) if share > 1 else int(missing * share)

    def body(self, length: int, cut: float | None, kill: int | None, *, has_length: bool = True) -> Body:
        self.count += 1
        if cut is None or kill is not None:
            return body(self.count, length, has_length=has_length)
        at = int(cut) if cut >= 1 or not cut else int(length * cut)
        return body(self.count, length, at if at < length else None, has_length=has_length)
