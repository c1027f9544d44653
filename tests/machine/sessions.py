"""Plain PUTs, and X-Session-Token with Content-Range: the requests, and what the protocol says to them (5, 5.1)."""

from collections.abc import Callable

from tests.machine.answers import Effect, Expected, May, offset_of
from tests.machine.checksums import Checksums
from tests.machine.content import Content
from tests.machine.model import Model
from tests.machine.uploads import File, Is, Upload
from tests.machine.wire import NOTHING, Body, Request, Slot, put, sha256
from tests.support.http import Answer


class Sessions:
    """Args: model: what the requests are judged by, and change."""

    def __init__(self, model: Model) -> None:
        self._model = model

    # Asking

    def ask(self, slot: Slot, token: str) -> tuple[Request, Expected]:
        request = put(slot, token, NOTHING, [("Content-Range", f"bytes */{slot.total}")])
        return request, Expected(self._asked(slot, token), lambda: self._ask_lost(slot, token))

    def _asked(self, slot: Slot, token: str) -> list[May]:
        model = self._model
        if slot.path in model.files:
            return self._at_published(slot, token, asks=True, is_cut=False)
        if not token:
            return self._asked_without_token(slot)
        elsewhere = model.elsewhere(slot, token)
        refusal = [May(403)] if elsewhere else []
        # An unknown token: offset 0. The server may, but need not, remember that it was asked.
        return refusal if elsewhere is Is.SURELY else [*refusal, *self._asked_for(model.session(slot, token))]

    def _asked_without_token(self, slot: Slot) -> list[May]:
        """The furthest one and its token; of several as far, any."""
        model, sessions = self._model, self._model.sessions(slot)
        sure = [each.content.least for each in sessions if model.certainty(each) is Is.SURELY]
        mays = []
        for upload in sessions:
            if upload.content.most >= max(sure, default=0):
                mays += self._asked_for(upload)
        return mays if sure else [*mays, *self._asked_for(model.begun("session", "", slot))]

    def _asked_for(self, upload: Upload) -> list[May]:
        """Where ``upload`` stands; the last byte may have arrived before a connection broke."""
        if self._model.certainty(upload) is Is.MAYBE:
            upload.doubt()
        content, mays = upload.content, []
        if content.may_be_complete and (content.total or self._model.certainty(upload)):
            mays = self._model.finishing(upload, content, good=201, bad=400)
        if not content.is_complete or not content.total:  # of nothing no byte can have arrived
            mays.append(May(202, self._told(upload, content), content.offsets))
        for may in mays:
            may.token = self._is_of(upload)
        return mays

    def _told(self, upload: Upload, content: Content, whole: bytes | None = None, *, has_bytes: bool = False) -> Effect:
        """The effect of an answer that tells an offset. Args: content: what the upload holds then."""

        def effect(answer: Answer) -> None:
            upload.content = content
            upload.secret = answer["X-Session-Token"]
            upload.declare(whole)
            self._model.keep(upload, with_bytes=has_bytes)
            upload.is_sure = upload.is_sure or offset_of(answer) > 0
            content.tell(offset_of(answer))

        return effect

    def _is_of(self, upload: Upload) -> Callable[[str], bool]:
        """Whether a token in an answer is that of ``upload``, or a new one where the client never heard it."""
        known = {each.secret for each in self._model.uploads}
        return lambda told: told == upload.secret if upload.secret else told not in known

    def _ask_lost(self, slot: Slot, token: str) -> None:
        for upload in self._model.sessions(slot):
            if upload.content.may_be_complete and token in ("", upload.secret):
                self._model.lost(upload, 0, b"")

    def _at_published(self, slot: Slot, token: str, *, asks: bool, is_cut: bool) -> list[May]:
        """The file of the path is there already."""
        file = self._model.files[slot.path]
        is_same = file.token == token if token else asks
        mays = [May(403)] if token and self._model.elsewhere(slot, token) else []  # that rule holds as well
        if not is_same or file.slot.total != slot.total:
            return [*mays, May(409)]
        if file.slot.type != slot.type:
            mays.append(May(409))  # another slot, strictly; but the rule asks for the token, or the size, alone
        return [*mays, May(400 if is_cut else 201)]

    # Pieces

    def piece(self, slot: Slot, token: str, first: int, body: Body, checksums: Checksums) -> tuple[Request, Expected]:
        """Bytes from ``first`` on, at least one, within the total."""
        upload, token = self._target(slot, token, first)
        after = upload.content.copy().record(first, body.content)
        whole = checksums.whole_digest(after, body)
        last = first + len(body.content) - 1
        fields = [("Content-Range", f"bytes {first}-{last}/{slot.total}"), *checksums.fields(body, whole)]
        request = put(slot, token, body, fields)
        if not body.has_length:
            return request, Expected([May(400)])
        if slot.path in self._model.files:
            return request, Expected(self._at_published(slot, token, asks=False, is_cut=body.is_cut))
        is_new = not self._model.certainty(upload)

        def lose() -> None:
            if not (is_new and first):
                self._model.lost(upload, first, b"" if checksums.piece is False else body.content, whole)

        mays, goes_on = self._admission(upload, token, first)
        if goes_on:
            mays += self._on(upload, first, body, checksums, whole)
        return request, Expected(mays, lose)

    def _target(self, slot: Slot, token: str, first: int) -> tuple[Upload, str]:
        """The upload that a piece belongs to, and the token to send with it.

        A first piece without a token begins an upload of its own. Which of several gets a later one is nowhere said, so
        only where there is one at most it is sent without.
        """
        model, sessions = self._model, self._model.sessions(slot)
        if not token and first and len(sessions) > 1:
            token = max(each.secret for each in sessions) or "a-token-that-nobody-knows"
        if token:
            upload = model.session(slot, token)
        else:
            upload = sessions[0] if first and sessions else model.begun("session", "", slot)
        if model.certainty(upload) is Is.MAYBE:
            upload.doubt()
        return upload, token

    def _admission(self, upload: Upload, token: str, first: int) -> tuple[list[May], bool]:
        """Refusals that may come before the body, and whether it may be taken after all."""
        model = self._model
        elsewhere = model.elsewhere(upload.slot, token) if token else Is.NOT
        mays = [May(403)] if elsewhere else []
        known = model.certainty(upload)
        if elsewhere is Is.SURELY or known is Is.SURELY:
            return mays, elsewhere is not Is.SURELY
        if first:
            # A token that was only asked for: whether it is known is nowhere said.
            return [*mays, May(404, lambda _answer: model.forget(upload))], known is not Is.NOT
        room = model.room(upload.slot.path)
        return [*mays, *([] if room is Is.SURELY else [May(429)])], room is not Is.NOT or known is not Is.NOT

    def _on(self, upload: Upload, first: int, body: Body, checksums: Checksums, whole: bytes | None) -> list[May]:
        """The answers to a piece of ``upload``."""
        content = upload.content
        refusal, is_sure = self._out_of_place(upload, first, body)
        if is_sure:
            return refusal

        def broken(answer: Answer) -> None:
            arrived = b"" if checksums.piece is not None else body.arrived  # its digest was never verified
            content.record(first, arrived)
            upload.secret = answer["X-Session-Token"]
            upload.declare(whole, is_refused=not body.is_cut)
            self._model.keep(upload, with_bytes=bool(arrived))

        is_of = self._is_of(upload)  # "every answer of this face carries X-Session-Token"
        if body.is_cut or checksums.piece is False:
            return [*refusal, May(400, broken, token=is_of)]
        after, mays = content.copy().record(first, body.content), refusal
        if after.may_be_complete:
            mays = [*mays, *self._model.finishing(upload, after, good=201, bad=400, whole=whole)]
        if not after.is_complete:
            mays = [*mays, May(202, self._told(upload, after, whole, has_bytes=True), after.offsets)]
        for may in mays:
            may.token = is_of
        return mays

    def _out_of_place(self, upload: Upload, first: int, body: Body) -> tuple[list[May], bool]:
        """409 for a piece that lies where none may, and whether nothing else can come."""
        content = upload.content

        def told(answer: Answer) -> None:
            self._model.keep(upload)
            content.tell(offset_of(answer))

        refusal = May(409, told, content.offsets)
        if not self._model.in_any_order:
            is_wrong, is_sure = first not in content.offsets or len(content.offsets) > 1, first not in content.offsets
        else:
            gaps = content.copy().record(first, body.content).gaps
            is_wrong = gaps > max(self._model.most_gaps, content.gaps) or not content.is_certain
            is_sure = is_wrong and content.is_certain
        return [refusal] if is_wrong else [], is_sure

    # The whole file at once

    def whole(self, slot: Slot, token: str, body: Body, checksums: Checksums) -> tuple[Request, Expected]:
        """A PUT without Content-Range. Args: body: all of the file."""
        content = Content(slot.total).record(0, body.content)
        whole = checksums.whole_digest(content, body)
        request = put(slot, token, body, checksums.fields(body, whole))
        if not body.has_length:
            return request, Expected([May(411)])
        digests = checksums.of_whole(body, whole)
        mays = self.whole_mays(slot, token, body, digests, whole)
        return request, Expected(mays, lambda: self.whole_lost(slot, token, body, digests))

    def whole_mays(
        self, slot: Slot, token: str, body: Body, digests: frozenset[bytes], whole: bytes | None = None
    ) -> list[May]:
        """Args: digests: all that the request declares. whole: the one that stays with what its token stands for."""
        model = self._model
        elsewhere = model.elsewhere(slot, token) if token else Is.NOT
        mays = [May(403)] if elsewhere else []
        if slot.path in model.files:
            return [*mays, May(409)]
        if elsewhere is Is.SURELY:
            return mays
        if model.room(slot.path) is not Is.SURELY:
            # "one more is 429" is one rule, "whatever partials exist" another
            mays.append(May(429))
        if body.is_cut:
            return [*mays, May(400, lambda _answer: self._keep_longer(slot, token, body, digests, whole))]
        if digests - {sha256(body.content)}:
            return [*mays, May(400)]
        file = File(slot, Content(slot.total).record(0, body.content), token)
        return [*mays, May(201, lambda _answer: model.publish(file, None))]

    def whole_lost(self, slot: Slot, token: str, body: Body, digests: frozenset[bytes]) -> None:
        model = self._model
        if not digests - {sha256(body.content)}:
            model.may_publish(File(slot, Content(slot.total).record(0, body.content), token))
        if slot.path in model.files or not token or model.elsewhere(slot, token) is Is.SURELY:
            return
        upload = model.session(slot, token)
        if model.certainty(upload) is not Is.SURELY:
            upload.doubt()
            upload.content.may_record(0, body.content)
            upload.may |= digests
            model.keep(upload, is_lost=True)

    def _keep_longer(self, slot: Slot, token: str, body: Body, digests: frozenset[bytes], whole: bytes | None) -> None:
        """A plain PUT broke off: what arrived is what its token stands for, if it is longer."""
        if not token or not body.sent:
            return
        model, upload = self._model, self._model.session(slot, token)
        known, recorded = model.certainty(upload), upload.content.recorded
        if known is Is.NOT or (known is Is.SURELY and body.sent >= recorded.stop):
            upload.content = Content(slot.total).record(0, body.arrived)
            # Content-Digest was of this body: whether it binds what goes on from here is nowhere said.
            upload.may |= digests | upload.must
            upload.must = frozenset(filter(None, (whole,)))
            model.keep(upload, with_bytes=True)
        elif known is Is.MAYBE or body.sent > upload.content.least:
            # Longer than the beginning that is there, and not more bytes: whether that is "longer" is nowhere said.
            if known is Is.MAYBE:
                upload.doubt()
            else:
                upload.content.doubt()
            upload.content.may_record(0, body.arrived)
            upload.may |= digests | upload.must
            upload.must = frozenset()
            model.keep(upload)
