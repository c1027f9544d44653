"""What protocol.md, section 5, says of one server's slots: the uploads that there are, and the files.

Each request is judged by a list of answers that may come, each with its effect. Most lists have one entry. Where the
protocol leaves two answers open, both are listed, with the reason; where a killed worker leaves open what happened, the
effects keep the doubt until an answer ends it.
"""

from tests.machine.answers import Expected, May
from tests.machine.content import Content
from tests.machine.uploads import File, Is, Upload
from tests.machine.wire import Slot
from tests.support.http import Answer

TTL = 1000
"""SessionTTL, in seconds. Jumps of time stay far from its edges."""

MOST_SESSIONS = 4
"""MaxSessionsPerSlot, its default."""


class Model:
    """The state of all slots.

    Args:
        in_any_order: ChunkingEnabled.
        most_gaps: in one upload.
    """

    def __init__(self, *, in_any_order: bool, most_gaps: int) -> None:
        self.in_any_order = in_any_order
        self.most_gaps = most_gaps
        self.now = 0
        self.uploads: list[Upload] = []
        self.files: dict[str, File] = {}
        self.maybe_files: dict[str, list[tuple[File, Upload | None]]] = {}
        self.leftovers: dict[str, int] = {}

    # Uploads

    def begun(self, face: str, secret: str, slot: Slot) -> Upload:
        """An upload that nobody knows yet; ``keep`` makes it known."""
        return Upload(face, secret, slot, Content(slot.total), self.now, self.now)

    def keep(self, upload: Upload, *, with_bytes: bool = False, is_lost: bool = False) -> None:
        """A request reached it.

        A token stands for one upload: an older one, if it was still there, has ended.

        Args:
            is_lost: or perhaps did not reach it, because its worker was killed.
        """
        if upload not in self.uploads:
            for other in self.uploads:
                if upload.secret and other.secret == upload.secret and not is_lost:
                    other.has_ended = True
            self.uploads.append(upload)
            upload.is_scarred = is_lost
        upload.last_touch = self.now
        if with_bytes:
            upload.last_byte, upload.is_sure = self.now, True

    def forget(self, upload: Upload) -> None:
        """The server does not know it."""
        upload.has_ended = True

    def certainty(self, upload: Upload) -> Is:
        """Whether the server knows the upload.

        An upload expires SessionTTL after its last byte (5.1). Upload-Expires of an answer may promise a little more:
        asking writes down what had arrived before a broken connection, so up to SessionTTL after the last request it
        may be known.
        """
        if upload not in self.uploads or upload.has_ended or self.now - upload.last_touch > TTL:
            return Is.NOT
        return Is.MAYBE if not upload.is_sure or self.now - upload.last_byte > TTL else Is.SURELY

    def sessions(self, slot: Slot) -> list[Upload]:
        """Uploads of the session face that the slot may have."""
        return [each for each in self.uploads if each.face == "session" and each.slot == slot and self.certainty(each)]

    def session(self, slot: Slot, token: str) -> Upload:
        """What the token stands for in the slot; an upload that nobody knows where it stands for nothing."""
        found = (each for each in self.sessions(slot) if each.secret == token)
        return next(found, None) or self.begun("session", token, slot)

    def elsewhere(self, slot: Slot, token: str) -> Is:
        """Whether the token is known for another slot: another path, total or type."""
        others = [each for each in self.uploads if each.face == "session" and each.secret == token]
        known = max((self.certainty(each) for each in others if each.slot != slot), default=Is.NOT)
        return min(known, Is.MAYBE) if any(each.is_scarred for each in others) else known

    def open_ones(self, path: str) -> list[Upload]:
        """What the slot may have of unfinished uploads.

        Counted over the whole path: one path has one slot, unless somebody signs two totals for it.
        """
        own = [each for each in self.uploads if each.slot.path == path and not each.is_published]
        return [each for each in own if self.certainty(each)]

    def room(self, path: str) -> Is:
        """Whether the slot takes one more upload or body. MAYBE: it may refuse with 429."""
        open_ones = self.open_ones(path)
        if len(open_ones) + self.leftovers.get(path, 0) < MOST_SESSIONS:
            return Is.SURELY
        sure = sum(1 for each in open_ones if self.certainty(each) is Is.SURELY)
        return Is.NOT if sure >= MOST_SESSIONS else Is.MAYBE

    def droppable(self, path: str) -> list[Upload]:
        """Those that a creation may drop: the least advanced one, by its beginning or by all of its bytes."""
        if self.room(path) is Is.SURELY:
            return []
        open_ones = self.open_ones(path)
        sure = [each.content for each in open_ones if self.certainty(each) is Is.SURELY]
        return [
            each
            for each in open_ones
            if not any(
                other.most < each.content.least and other.recorded.stop <= each.content.recorded.start for other in sure
            )
        ]

    def make_room(self, path: str) -> None:
        """A creation came."""
        droppable = self.droppable(path)
        for upload in droppable:
            upload.is_sure = False
        if len(droppable) == 1 and self.room(path) is Is.NOT:
            droppable[0].has_ended = True

    def age(self, seconds: int) -> None:
        self.now += seconds

    def doubtful(self) -> list[Upload]:
        """Uploads that a question should be asked about, because something was killed or left open."""
        known = [each for each in self.uploads if each.secret and self.certainty(each) and not each.is_published]
        return [
            each
            for each in known
            if len(each.content.offsets) > 1
            or (each.face != "session" and (self.certainty(each) is Is.MAYBE or each.is_half_published))
        ]

    # Files

    def publish(self, file: File, by: Upload | None, *, killed: bool = False) -> None:
        """The file is there, and the slot's partials are gone. A killed worker may have left some."""
        self.files[file.slot.path] = file
        self.leftovers.pop(file.slot.path, None)
        for upload in self.uploads:
            if upload.slot.path != file.slot.path or upload.has_ended:
                continue
            if upload is by and upload.face != "session":
                upload.is_published, upload.is_half_published = not killed, killed
                upload.last_byte = upload.last_touch = self.now
                upload.is_sure = True
            elif killed and not upload.is_published:
                upload.is_sure = False  # the worker was to remove it next
            else:
                upload.has_ended = True

    def finishing(
        self,
        upload: Upload,
        content: Content,
        *,
        good: int,
        bad: int,
        whole: bytes | None = None,
        offsets: range | None = None,
        headers: dict[str, str] | None = None,
    ) -> list[May]:
        """The answers to the request with which the upload is complete.

        Args:
            content: what it holds then.
            good, bad: status where the file is published, and where it has not the digest that was declared.
            whole: the digest that this request declares.
        """

        def end(_answer: Answer) -> None:
            # No byte is ever written again, so an upload with wrong bytes can never become right.
            self.keep(upload)
            upload.has_ended = True

        def publish(answer: Answer) -> None:
            upload.content = content
            upload.secret = answer.get("X-Session-Token") or upload.secret
            self.keep(upload)
            token = upload.secret if upload.face == "session" else ""
            self.publish(File(upload.slot, content, token), upload)

        goods = upload.is_good(content, whole)
        if upload.slot.path in self.files and not upload.is_half_published:
            return [May(409, end), *([May(bad, end)] if False in goods else [])]  # both are true
        mays = [May(good, publish, offsets, headers=headers or {})] if True in goods else []
        return [*mays, May(bad, end)] if False in goods else mays

    def may_publish(self, file: File, by: Upload | None = None) -> None:
        """A killed worker may have published ``file``; ``get`` tells."""
        if file.content.may_be_complete:
            self.maybe_files.setdefault(file.slot.path, []).append((file, by))

    def lost(
        self, upload: Upload, first: int, block: bytes, whole: bytes | None = None, *, publishes: bool = True
    ) -> None:
        """A killed worker perhaps brought some of ``block`` into the upload, or finished it.

        Args:
            publishes: whether the request publishes the file once all of it is there.
        """
        upload.content.may_record(first, block)
        self.keep(upload, is_lost=True)
        is_taken = upload.slot.path in self.files and upload.content.may_be_complete
        if is_taken or False in upload.is_good(upload.content, whole):
            upload.is_sure = False  # it may have been removed
        upload.may |= {whole} if whole is not None else frozenset()
        token = (upload.secret or "nobody knows") if upload.face == "session" else ""
        if publishes:
            self.may_publish(File(upload.slot, upload.content.copy(), token), upload)

    def get(self, path: str) -> Expected:
        """GET of the path; what it shows ends all doubt about the file."""

        def see(answer: Answer) -> None:
            for file, by in self.maybe_files.pop(path, []):
                if path not in self.files and file.content.allows(answer.body):
                    self.publish(file, by, killed=True)
            assert path in self.files, "a file that nobody sent in full"
            file = self.files[path]
            assert file.content.allows(answer.body), "the file has other bytes than were recorded"
            assert answer["Content-Type"] == file.slot.type
            file.content.settle(answer.body)

        def miss(_answer: Answer) -> None:
            self.maybe_files.pop(path, None)

        if path in self.files:
            return Expected([May(200, see)])
        return Expected([May(404, miss), *([May(200, see)] if path in self.maybe_files else [])])
