"""The state machine: any request in any order, a model beside the server, and what must hold after every step."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.machine import choices
from tests.machine.answers import Expected, May
from tests.machine.checksums import Checksums
from tests.machine.choices import Sending, Which
from tests.machine.creation import Creation
from tests.machine.model import MOST_SESSIONS, Model
from tests.machine.resources import Resources
from tests.machine.sessions import Sessions
from tests.machine.uploads import Is, Upload
from tests.machine.wire import NOTHING, Body, Driver, Request, Slot, body, slot_url

MOST_GAPS = 1
"""The bound on gaps, lowered from 1,024 so that a few pieces reach it."""

QUESTIONS = ("ask", "ask", "ask", "head", "head", "get", "unsigned")
CREATIONS = ("tus", "tus empty", "tus empty", "draft", "draft empty", "draft empty", "last", "untold")
"""The draft's last: "Upload-Complete: ?1"; untold: without Upload-Length."""

OVERS = ("from the start", "from its offset", "from before", "broken whole", "island", "island")

_PLAIN = Checksums()


class SlotMachine(RuleBasedStateMachine):
    """One server and its model; a subclass gives the server.

    No rule has a precondition: what a server that dies knows is not the same when an example is tried again, but what
    is drawn has to be.

    Attributes:
        orders: values of ChunkingEnabled that it serves with.
        root: the folder of all paths.
        paths: of the slots so far.
        own_tokens: that the client chooses.
    """

    orders: tuple[bool, ...] = (True, True, True, False)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.root = "here"
        self.paths: list[str] = []
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

    # Requests

    @rule(which=choices.slots, pick=choices.picks, kind=st.sampled_from(QUESTIONS), kill=choices.kills)
    def question(self, which: Which, pick: int, kind: str, kill: int | None) -> None:
        slot, upload = self.slot(which), self.resource(pick)
        if kind == "ask":
            self.run(*self.sessions.ask(slot, self.token(pick)), kill, slot.path)
        elif kind == "head" and upload is not None:
            self.run(*self.resources.head(upload), kill, upload.slot.path)
        elif kind == "get":
            self.look(slot.path)
        elif kind == "unsigned":
            self.send_unsigned(slot, pick)

    @rule(which=choices.slots, pick=choices.picks, place=choices.places, sending=choices.sendings)
    def piece(self, which: Which, pick: int, place: float, sending: Sending) -> None:
        """With any token, also one of another slot; mostly the first where it is unknown."""
        slot, token = self.slot(which), self.token(pick)
        is_known = self.model.certainty(self.model.session(slot, token))
        self.send_piece(slot, token, place if is_known or pick > 7 else 0.0, sending)

    @rule(pick=choices.picks, place=choices.places, sending=choices.sendings)
    def next_piece(self, pick: int, place: float, sending: Sending) -> None:
        """Of an upload that there is; else the first of one."""
        known = [each for each in self.model.uploads if each.face == "session" and self.model.certainty(each)]
        if known:
            upload = known[-1 - pick % len(known)]
            self.send_piece(upload.slot, upload.secret, place, sending)
        else:
            self.send_piece(self.slot((pick % 2, 0, 0)), self.own_tokens[0], 0.0, sending)

    @rule(how=st.sampled_from(OVERS), cut=choices.breaks)
    def go_over_it(self, how: str, cut: float) -> None:
        """All of an upload, over what is there, or two bytes in a gap; of one with a gap, if there is one."""
        known = [each for each in self.model.uploads if each.face == "session" and self.model.certainty(each)]
        for upload in sorted(known, key=lambda each: -each.content.gaps)[:1]:
            slot, token = upload.slot, upload.secret
            if how == "broken whole":
                sending = replace(choices.EVERYTHING, cut=cut)
                request = self.sessions.whole(slot, token, self.body(slot.total, sending), _PLAIN)
                self.run(*request, None, slot.path)
            elif how == "island":
                self.send_piece(slot, token, cut, replace(choices.EVERYTHING, share=2.0))
            else:
                places = {"from the start": float(-upload.content.least), "from before": -1.0}
                self.send_piece(slot, token, places.get(how, 0.0), choices.EVERYTHING)

    @rule(which=choices.slots, pick=choices.picks, sending=choices.sendings)
    def whole(self, which: Which, pick: int, sending: Sending) -> None:
        """A PUT without Content-Range."""
        slot, token = self.slot(which), self.token(pick)
        sent = self.body(slot.total, sending, needs_length=pick > 0)
        self.run(*self.sessions.whole(slot, token, sent, sending.checks), sending.kill, slot.path)

    @rule(which=choices.slots, kind=st.sampled_from(CREATIONS), sending=choices.sendings)
    def create(self, which: Which, kind: str, sending: Sending) -> None:
        slot = self.slot(which)
        checks = sending.checks if kind in ("tus", "draft", "last", "untold") else replace(sending.checks, piece=None)
        sent = NOTHING if "empty" in kind else self.body(choices.length(sending.share, slot.total), sending)
        if kind.startswith("tus"):
            made = self.creation.tus(slot, sent, checks)
        else:
            is_last, declares = kind in ("last", "untold"), kind != "untold"
            made = self.creation.draft(slot, sent, checks, is_last=is_last, declares=declares)
        self.run(*made, sending.kill, slot.path)

    @rule(pick=choices.picks, shift=choices.shifts, sending=choices.sendings, last=choices.flags)
    def patch(self, pick: int, shift: int, sending: Sending, last: bool) -> None:
        upload = self.resource(pick)
        if upload is not None:
            total = upload.slot.total
            offset = min(max(0, upload.content.least + shift), total)
            sent = self.body(choices.length(sending.share, total - offset), sending)
            made = self.resources.patch(upload, offset, sent, sending.checks, is_last=last)
            self.run(*made, sending.kill, upload.slot.path)

    @rule(pick=choices.picks, seconds=st.none() | choices.jumps, kill=choices.kills)
    def lose(self, pick: int, seconds: int | None, kill: int | None) -> None:
        """What ends uploads: DELETE, and time."""
        upload = self.resource(pick)
        if seconds is not None:
            self.model.age(seconds)
            self.driver.age(seconds)
        elif upload is not None:
            self.run(*self.resources.delete(upload), kill, upload.slot.path)

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

    def send_unsigned(self, slot: Slot, pick: int) -> None:
        """Whatever it is, it learns nothing and changes nothing."""
        sent = body(self.count, slot.total)
        request, _ = (
            self.sessions.ask(slot, self.own_tokens[0]),
            self.sessions.whole(slot, "", sent, _PLAIN),
            self.creation.tus(slot, sent, _PLAIN),
            self.creation.draft(slot, sent, _PLAIN, is_last=False),
        )[pick % 4]
        bare = Request(request.method, slot_url(slot.path), request.headers, request.body)
        self.run(bare, Expected([May(403)]), None, slot.path)

    def send_piece(self, slot: Slot, token: str, place: float, sending: Sending) -> None:
        if not slot.total:
            return
        offset = self.model.session(slot, token).content.least if token else 0
        first = choices.first_byte(place, offset, slot.total)
        size = min(choices.length(sending.share, slot.total - first), slot.total - first)
        sent = self.body(max(1, size), sending, needs_length=place >= 0)
        self.run(*self.sessions.piece(slot, token, first, sent, sending.checks), sending.kill, slot.path)

    def slot(self, which: Which) -> Slot:
        """One of two paths without a file, or one that has a file."""
        path, total, kind = which
        stored = [each for each in self.paths if each in self.model.files]
        while len(self.paths) - len(stored) < 2:
            self.paths.append(f"{self.root}/{len(self.paths)}/file.bin")
        vacant = [each for each in self.paths if each not in self.model.files]
        return Slot(stored[-1] if path == 2 and stored else vacant[path % 2], self.totals[total], choices.TYPES[kind])

    def token(self, pick: int) -> str:
        """None, the client's own, and those that the server gave."""
        given = [each.secret for each in self.model.uploads if each.face == "session" and each.secret]
        tokens = ["", *dict.fromkeys((*self.own_tokens, *given[-4:]))]
        return tokens[pick % len(tokens)]

    def resource(self, pick: int) -> Upload | None:
        """An upload whose resource the client knows, seldom a dead one; a new one where there is none.

        None where none came about, because the worker died or the path has a file.
        """
        known = [each for each in self.model.uploads if each.face != "session" and each.secret]
        living = [each for each in known if self.model.certainty(each) and not each.is_published]
        if not living:
            slot = self.slot((pick % 4 // 2, 0, 0))
            empty = self.creation.draft(slot, NOTHING, _PLAIN, is_last=False)
            self.run(*(self.creation.tus(slot, NOTHING, _PLAIN) if pick % 2 else empty), None, slot.path)
            known = [each for each in self.model.uploads if each.face != "session" and each.secret]
            living = known
        chosen = known if pick > 7 else living
        return chosen[-1 - pick % len(chosen)] if chosen else None

    def body(self, size: int, sending: Sending, *, needs_length: bool = False) -> Body:
        """Other bytes each time; a killed worker gets all of them, as far as it comes.

        Args:
            needs_length: a chunked body would be refused whatever it is.
        """
        self.count += 1
        cut = None if sending.kill is not None else choices.cut_at(sending.cut, size)
        return body(self.count, size, cut, has_length=sending.has_length or needs_length)
