"""The state machine: any request in any order, a model beside the server, and what must hold after every step."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.machine import choices
from tests.machine.answers import Expected, May
from tests.machine.checksums import Checksums
from tests.machine.choices import Which
from tests.machine.creation import Creation
from tests.machine.model import MOST_SESSIONS, Model
from tests.machine.resources import Resources
from tests.machine.sessions import Sessions
from tests.machine.uploads import Is, Upload
from tests.machine.wire import NOTHING, Body, Driver, Request, Slot, body, slot_url

MOST_GAPS = 3
"""The bound on gaps, lowered from 1,024 so that a few pieces reach it."""

_PLAIN = Checksums()


class SlotMachine(RuleBasedStateMachine):
    """One server and its model; a subclass gives the server.

    No rule has a precondition: what a server that dies knows is not the same when an example is tried again, but what
    is drawn has to be.

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

    @initialize(totals=st.permutations(choices.TOTALS), order=st.integers(0, 3))
    def begin(self, totals: list[int], order: int) -> None:
        in_any_order = self.orders[order % len(self.orders)]
        self.totals = totals[:2]
        self.driver = self.driver_for(in_any_order=in_any_order)
        self.model = Model(in_any_order=in_any_order, most_gaps=MOST_GAPS)
        self.sessions = Sessions(self.model)
        self.creation = Creation(self.model, self.sessions)
        self.resources = Resources(self.model)

    # The session face, and plain PUTs

    @rule(which=choices.slots, pick=choices.picks, kill=choices.kills)
    def ask(self, which: Which, pick: int, kill: int | None) -> None:
        slot = self.slot(which)
        self.run(*self.sessions.ask(slot, self.token(pick)), kill, slot.path)

    @rule(
        which=choices.slots,
        pick=choices.picks,
        place=choices.places,
        share=choices.shares,
        cut=choices.cuts,
        checks=choices.checksums,
        kill=choices.kills,
    )
    def piece(
        self, which: Which, pick: int, place: float, share: float, cut: Any, checks: Checksums, kill: int | None
    ) -> None:
        """With any token, also one of another slot."""
        self.send_piece(self.slot(which), self.token(pick), place, share, cut, checks, kill)

    @rule(
        pick=choices.picks,
        place=choices.places,
        share=choices.shares,
        cut=choices.cuts,
        checks=choices.checksums,
        kill=choices.kills,
    )
    def next_piece(self, pick: int, place: float, share: float, cut: Any, checks: Checksums, kill: int | None) -> None:
        """Of an upload that there is; else the first of one."""
        known = [each for each in self.model.uploads if each.face == "session" and not each.has_ended]
        slot = known[-1 - pick % len(known)].slot if known else self.slot((0, 0, 0))
        token = known[-1 - pick % len(known)].secret if known else self.own_tokens[0]
        self.send_piece(slot, token, place, share, cut, checks, kill)

    @rule(
        which=choices.slots,
        pick=choices.picks,
        cut=choices.cuts,
        checks=choices.checksums,
        kill=choices.kills,
    )
    def whole(self, which: Which, pick: int, cut: Any, checks: Checksums, kill: int | None) -> None:
        slot = self.slot(which)
        sent = self.body(slot.total, cut, kill)
        self.run(*self.sessions.whole(slot, self.token(pick), sent, checks), kill, slot.path)

    @rule(which=choices.slots)
    def get(self, which: Which) -> None:
        self.look(self.slot(which).path)

    @rule(which=choices.slots, face=st.integers(0, 3))
    def unsigned(self, which: Which, face: int) -> None:
        """Whatever it is, it learns nothing and changes nothing."""
        slot = self.slot(which)
        sent = self.body(slot.total, None, None)
        request, _ = (
            self.sessions.ask(slot, self.own_tokens[0]),
            self.sessions.whole(slot, "", sent, _PLAIN),
            self.creation.tus(slot, sent, _PLAIN),
            self.creation.draft(slot, sent, _PLAIN, is_last=False),
        )[face]
        bare = Request(request.method, slot_url(slot.path), request.headers, request.body)
        self.run(bare, Expected([May(403)]), None, slot.path)

    # tus and the draft

    @rule(
        which=choices.slots,
        share=choices.longer_shares,
        cut=choices.cuts,
        has_length=choices.flags,
        checks=choices.checksums,
        kill=choices.kills,
    )
    def tus_create(
        self, which: Which, share: float, cut: Any, has_length: bool, checks: Checksums, kill: int | None
    ) -> None:
        slot = self.slot(which)
        sent = self.body(choices.length(share, slot.total), cut, kill, has_length=has_length)
        self.run(*self.creation.tus(slot, sent, checks), kill, slot.path)

    @rule(
        which=choices.slots,
        share=choices.longer_shares,
        cut=choices.cuts,
        has_length=choices.flags,
        checks=choices.checksums,
        ways=st.sampled_from(((False, True), (True, True), (True, False), (False, False))),
        kill=choices.kills,
    )
    def draft_create(
        self,
        which: Which,
        share: float,
        cut: Any,
        has_length: bool,
        checks: Checksums,
        ways: tuple[bool, bool],
        kill: int | None,
    ) -> None:
        """Args: ways: whether the body is the last, and whether the total is declared."""
        slot, (is_last, declares) = self.slot(which), ways
        sent = self.body(choices.length(share, slot.total), cut, kill, has_length=has_length)
        self.run(*self.creation.draft(slot, sent, checks, is_last=is_last, declares=declares), kill, slot.path)

    @rule(which=choices.slots, is_tus=choices.flags, checks=choices.checksums)
    def create_empty(self, which: Which, is_tus: bool, checks: Checksums) -> None:
        slot = self.slot(which)
        whole = Checksums(whole=checks.whole, spelling=checks.spelling)
        tus, draft = self.creation.tus(slot, NOTHING, whole), self.creation.draft(slot, NOTHING, whole, is_last=False)
        self.run(*(tus if is_tus else draft), None, slot.path)

    @rule(
        pick=choices.picks,
        shift=choices.shifts,
        share=choices.longer_shares,
        cut=choices.cuts,
        has_length=choices.flags,
        checks=choices.checksums,
        last=choices.flags,
        kill=choices.kills,
    )
    def patch(
        self,
        pick: int,
        shift: int,
        share: float,
        cut: Any,
        has_length: bool,
        checks: Checksums,
        last: bool,
        kill: int | None,
    ) -> None:
        upload = self.resource(pick)
        if upload is None:
            return
        total = upload.slot.total
        offset = min(max(0, upload.content.least + shift), total)
        sent = self.body(choices.length(share, total - offset), cut, kill, has_length=has_length)
        self.run(*self.resources.patch(upload, offset, sent, checks, is_last=last), kill, upload.slot.path)

    @rule(pick=choices.picks)
    def head(self, pick: int) -> None:
        upload = self.resource(pick)
        if upload is not None:
            self.run(*self.resources.head(upload), None, upload.slot.path)

    @rule(pick=choices.picks, kill=choices.kills)
    def delete(self, pick: int, kill: int | None) -> None:
        upload = self.resource(pick)
        if upload is not None:
            self.run(*self.resources.delete(upload), kill, upload.slot.path)

    @rule(seconds=choices.jumps)
    def wait(self, seconds: int) -> None:
        self.model.age(seconds)
        self.driver.age(seconds)

    # What must always hold

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        """Nothing but whole files that were sent in full lies in it, and no slot has too many partials."""
        if not hasattr(self, "model"):
            return
        stored = self.driver.stored()
        assert stored.keys() == self.model.files.keys()
        for path, content in stored.items():
            assert self.model.files[path].content.allows(content), f"{path} is not what was sent"
        for path in self.paths:
            assert self.driver.partial_files(path) <= MOST_SESSIONS

    # How

    def run(self, request: Request, expected: Expected, kill: int | None, path: str) -> None:
        """One request, judged; and what is in doubt then, asked."""
        is_full = self.model.room(path) is not Is.SURELY
        before = [each for each in self.model.open_ones(path) if self.model.certainty(each) is Is.SURELY]
        answer = self.driver.send(request, kill)
        expected.meet(answer)
        if answer is None:
            # A killed worker may leave a file that counts for the slot until it is swept.
            self.model.leftovers[path] = self.model.leftovers.get(path, 0) + 1
            self.look(path)
        for upload in self.model.doubtful():
            is_session = upload.face == "session"
            asked = self.sessions.ask(upload.slot, upload.secret) if is_session else self.resources.head(upload)
            asked[1].meet(self.driver.send(asked[0]))
        if is_full and path not in self.model.files and answer is not None:
            assert sum(1 for each in before if each.has_ended) <= 1, "more than one upload was dropped"

    def look(self, path: str) -> None:
        self.model.get(path).meet(self.driver.send(Request("GET", slot_url(path), [])))

    def send_piece(
        self, slot: Slot, token: str, place: float, share: float, cut: Any, checks: Checksums, kill: int | None
    ) -> None:
        if not slot.total:
            return
        offset = self.model.session(slot, token).content.least if token else 0
        first = choices.first_byte(place, offset, slot.total)
        sent = self.body(max(1, choices.length(share, slot.total - first)), cut, kill)
        self.run(*self.sessions.piece(slot, token, first, sent, checks), kill, slot.path)

    def slot(self, which: Which) -> Slot:
        path, total, kind = which
        return Slot(self.paths[path], self.totals[total], choices.TYPES[kind])

    def token(self, pick: int) -> str:
        """None, the client's own, and those that the server gave."""
        given = [each.secret for each in self.model.uploads if each.face == "session" and each.secret]
        tokens = ["", *dict.fromkeys((*self.own_tokens, *given[-4:]))]
        return tokens[pick % len(tokens)]

    def resource(self, pick: int) -> Upload | None:
        """An upload whose resource the client knows, perhaps a dead one; a new one where there is none.

        None where none can begin, because the slot has its file.
        """
        for attempt in range(2):
            known = [each for each in self.model.uploads if each.face != "session" and each.secret][-5:]
            if known:
                return known[-1 - pick % len(known)]
            if not attempt:
                self.create_empty((pick % 4 // 2, 0, 0), bool(pick % 2), _PLAIN)
        return None

    def body(self, size: int, cut: float | None, kill: int | None, *, has_length: bool = True) -> Body:
        """Other bytes each time; a killed worker gets all of them, as far as it comes."""
        self.count += 1
        return body(self.count, size, None if kill is not None else choices.cut_at(cut, size), has_length=has_length)
