"""tus and the IETF draft: the requests, and what the protocol says to them (5.2, 5.3)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.machine.content import Content
from tests.machine.model import Effect, Expected, Is, May, Model, Upload, exactly, offset_of
from tests.machine.sessions import Checksums, Sessions, put
from tests.machine.wire import DRAFT_TYPE, TUS_TYPE, Body, Request, Slot, base64, sha256, signed, wrong
from tests.support.http import Answer

GONE = (404, 410)
"""An upload that has ended or never was: the protocol wants 404 or 410, tus allows both."""


@dataclass(frozen=True)
class Words:
    """How a face says things. Attributes: mismatch: status of a wrong digest. grown: of a PATCH that is not the last.
    done: of the one that is. at_end: of a PATCH of a published upload."""

    mismatch: int
    grown: int
    done: int
    at_end: int
    seen: int


WORDS = {"tus": Words(460, 204, 204, 403, 200), "draft": Words(400, 204, 201, 400, 204)}


class Resources:
    """Args: model: what the requests are judged by, and change."""

    def __init__(self, model: Model, sessions: Sessions) -> None:
        self._model = model
        self._sessions = sessions

    # Creation

    def tus_create(self, slot: Slot, body: Body, checksums: Checksums) -> tuple[Request, Expected]:
        upload = self._model.begun("tus", "", slot)
        has_body = bool(body.content) or not body.has_length
        checksums = checksums if has_body else replace(checksums, piece=None)
        whole = checksums.whole_digest(Content(slot.total).record(0, body.content[: slot.total]), body)
        fields = _tus_fields(checksums, body, whole)
        fields += [("Upload-Length", str(slot.total)), ("Upload-Metadata", f"filetype {base64(slot.type.encode())}")]
        if has_body:
            fields.append(("Content-Type", TUS_TYPE))
        request = Request("POST", signed(slot), fields, body)
        return request, self._creation(upload, body, checksums, whole, is_last=None)

    def draft_put(
        self, slot: Slot, body: Body, checksums: Checksums, *, is_last: bool, declares: bool = True
    ) -> tuple[Request, Expected]:
        """Args: declares: whether Upload-Length is there."""
        upload = self._model.begun("draft", "", slot)
        content = Content(slot.total).record(0, body.content[: slot.total])
        whole = checksums.whole_digest(content, body)
        fields = [("Upload-Complete", _boolean(is_last)), *checksums.fields(body, whole)]
        if declares:
            fields.append(("Upload-Length", str(slot.total)))
        request = put(slot, "", body, fields)
        length = len(body.content)
        if not declares and not (is_last and body.has_length):
            return request, Expected([May(400), *([May(411)] if not body.has_length else [])])
        if not declares and length != slot.total:  # Content-Length is the total then, and was not signed
            return request, Expected([May(403)])
        if body.has_length and (length > slot.total or (is_last and length != slot.total)):
            return request, Expected([May(400)])
        if is_last and body.has_length:  # "Upload-Complete: ?1" with everything: a plain PUT
            digests = checksums.of_whole(body, whole)
            mays = self._sessions.whole_mays(slot, "", body, digests)
            return request, Expected(mays, lambda: self._sessions.whole_lost(slot, "", body, digests))
        return request, self._creation(upload, body, checksums, whole, is_last=is_last)

    def _creation(
        self, upload: Upload, body: Body, checksums: Checksums, whole: bytes | None, *, is_last: bool | None
    ) -> Expected:
        model, words, total = self._model, WORDS[upload.face], upload.slot.total
        if upload.slot.path in model.files:
            return Expected([May(409)])
        length = len(body.content)
        after = Content(total).record(0, body.content[:total])
        upload.declare(whole)

        def hidden(_answer: Answer) -> None:
            """It was refused after it began: nobody knows where it is, and the server may keep it."""
            self._make_room(upload.slot.path)
            model.keep(upload)

        def begun(answer: Answer) -> None:
            self._make_room(upload.slot.path)
            upload.content, upload.secret, upload.is_sure = after, answer["Location"], True
            model.keep(upload)
            after.tell(length)

        def lose() -> None:
            for other in self._droppable(upload.slot.path):
                other.is_sure = False
            model.lost(upload, 0, b"" if checksums.piece is False else body.content[:total])
            if is_last is False:
                model.maybe_files.pop(upload.slot.path, None)

        told = {"Upload-Complete": "?0"} if upload.face == "draft" else {}
        if length > total:
            mays = [May(413, hidden), May(400, hidden)]
        elif body.is_cut:
            mays = [May(400, hidden)]
        elif checksums.piece is False:
            mays = [May(words.mismatch, hidden)]
        elif length == total and is_last is not False:
            done = {"Upload-Complete": "?1"} if upload.face == "draft" else {}
            mays = model.finishing(upload, after, good=201, bad=words.mismatch, headers=done)
            mays = [_after(each, lambda answer: self._located(upload, answer)) for each in mays]
        elif is_last:
            mays = [May(400, hidden)]
        else:
            mays = [May(201, begun, exactly(length) if body.content else None, headers=told)]
        if model.leftovers.get(upload.slot.path, 0):
            mays.append(May(429))
        return Expected(mays, lose)

    def _located(self, upload: Upload, answer: Answer) -> None:
        if upload.face == "tus" and answer.status == 201:
            upload.secret = answer["Location"]

    def _droppable(self, path: str) -> list[Upload]:
        """Those that a creation may drop: the least advanced one, by its beginning or by all of its bytes."""
        if self._model.room(path) is Is.SURELY:
            return []
        open_ones = self._model.open_ones(path)
        sure = [each.content for each in open_ones if self._model.certainty(each) is Is.SURELY]
        return [
            each
            for each in open_ones
            if not any(
                other.most < each.content.least and other.recorded.stop <= each.content.recorded.start for other in sure
            )
        ]

    def _make_room(self, path: str) -> None:
        droppable = self._droppable(path)
        for upload in droppable:
            upload.is_sure = False
        if len(droppable) == 1 and self._model.room(path) is Is.NOT:
            droppable[0].has_ended = True

    # On an upload resource

    def head(self, upload: Upload) -> tuple[Request, Expected]:
        request = Request("HEAD", upload.secret, _words_of(upload))
        model, content, seen = self._model, upload.content, WORDS[upload.face].seen
        mays = self._if_gone(upload)
        if not model.certainty(upload):
            return request, Expected(mays)

        def told(answer: Answer) -> None:
            upload.is_sure = True
            model.keep(upload)
            content.tell(offset_of(answer))

        def published(_answer: Answer) -> None:
            upload.is_published, upload.is_half_published = True, False

        whole, draft = exactly(upload.slot.total), upload.face == "draft"
        if upload.is_published or upload.is_half_published:
            mays.append(May(seen, published, whole, headers={"Upload-Complete": "?1"} if draft else {}))
        if draft and not upload.is_published:
            mays.append(May(seen, told, content.offsets, headers={"Upload-Complete": "?0"}))
        if not draft and not upload.is_published and not upload.is_half_published:
            # For tus an offset of all is the end: whoever is told so may rely on the file.
            if content.may_be_complete:
                mays += model.finishing(upload, content, good=seen, bad=WORDS["tus"].mismatch, offsets=whole)
            mays.append(May(seen, told, range(content.least, min(content.most + 1, upload.slot.total))))
        return request, Expected(mays, lambda: self._lost(upload))

    def delete(self, upload: Upload) -> tuple[Request, Expected]:
        request = Request("DELETE", upload.secret, _words_of(upload))
        mays = self._if_gone(upload)
        if upload.is_published or upload.is_half_published:
            mays.append(May(410))
        if self._model.certainty(upload) and not upload.is_published:
            mays.append(May(204, lambda _answer: self._model.forget(upload)))
        return request, Expected(mays, lambda: self._lost(upload, may_have_ended=True))

    def patch(
        self, upload: Upload, offset: int, body: Body, checksums: Checksums, *, is_last: bool
    ) -> tuple[Request, Expected]:
        """Args: is_last: Upload-Complete of the draft; the last PATCH of tus is the one that reaches the total."""
        draft, total = upload.face == "draft", upload.slot.total
        if self._model.certainty(upload) is Is.MAYBE:
            upload.content.doubt(even_told=True)
            upload.may, upload.must = upload.may | upload.must, frozenset()
        after = upload.content.copy().record(offset, body.content[: total - offset])
        whole = checksums.whole_digest(after, body)
        fields = [("Upload-Offset", str(offset))]
        if draft:
            fields += [("Upload-Complete", _boolean(is_last)), ("Content-Type", DRAFT_TYPE)]
            fields += checksums.fields(body, whole)
        else:
            fields += [("Content-Type", TUS_TYPE), *_tus_fields(checksums, body, whole)]
        request = Request("PATCH", upload.secret, fields, body)
        publishes = is_last or not draft

        def lose() -> None:
            before = dict(self._model.maybe_files)
            if offset in upload.content.offsets and self._model.certainty(upload):
                self._model.lost(upload, offset, b"" if checksums.piece is False else body.arrived, whole)
            if not publishes:
                self._model.maybe_files = before
            if offset + len(body.content) > total:
                upload.is_sure = False

        return request, Expected(self._patched(upload, offset, body, checksums.piece, whole, after, is_last), lose)

    def _patched(
        self,
        upload: Upload,
        offset: int,
        body: Body,
        piece: bool | None,
        whole: bytes | None,
        after: Content,
        is_last: bool,
    ) -> list[May]:
        model, words, mays = self._model, WORDS[upload.face], self._if_gone(upload)
        if upload.is_published or upload.is_half_published:
            mays.append(May(words.at_end))
        if upload.is_published or not model.certainty(upload):
            return mays

        def told(answer: Answer) -> None:
            model.keep(upload)
            upload.content.tell(offset_of(answer))

        if offset not in upload.content.offsets or len(upload.content.offsets) > 1:
            mays.append(May(409, told, upload.content.offsets))
        if offset not in upload.content.offsets:
            return mays
        return [*mays, *self._in_place(upload, offset, body, piece, whole, after, is_last, words)]

    def _in_place(
        self,
        upload: Upload,
        offset: int,
        body: Body,
        piece: bool | None,
        whole: bytes | None,
        after: Content,
        is_last: bool,
        words: Words,
    ) -> list[May]:
        """The answers to a PATCH where the upload stands."""
        model, draft, total = self._model, upload.face == "draft", upload.slot.total
        end = offset + len(body.content)
        open_end = not body.has_length

        def broken(_answer: Answer) -> None:
            arrived = b"" if piece is not None else body.arrived  # its digest was never verified
            upload.content.record(offset, arrived)
            upload.declare(whole)
            model.keep(upload, with_bytes=bool(arrived))

        def maybe(_answer: Answer) -> None:
            upload.content.may_record(
                offset, body.arrived[: total - offset] if open_end and piece is not False else b""
            )
            model.keep(upload)

        def grown(answer: Answer) -> None:
            upload.content = after
            upload.declare(whole)
            upload.is_sure = True
            model.keep(upload, with_bytes=bool(body.content))
            after.tell(offset_of(answer))

        if end > total and not (body.is_cut and open_end and offset + body.sent <= total):
            # What goes beyond ends an upload of the draft, whose client has another idea of the file.
            refused: Effect = (lambda _answer: model.forget(upload)) if draft else maybe
            return [May(413, refused), May(400, refused)]
        if draft and is_last and end != total and not open_end:
            return [May(400, maybe)]
        if body.is_cut:
            return [May(400, broken)]
        if piece is False:
            return [May(words.mismatch, broken)]
        if draft and is_last and end != total:
            return [May(400, maybe)]
        if after.is_complete and (is_last or not draft):
            headers = {"Upload-Complete": "?1"} if draft else {}
            return model.finishing(
                upload, after, good=words.done, bad=words.mismatch, whole=whole, offsets=exactly(total), headers=headers
            )
        return [May(words.grown, grown, exactly(end), headers={"Upload-Complete": "?0"} if draft else {})]

    def _if_gone(self, upload: Upload) -> list[May]:
        if self._model.certainty(upload) is Is.SURELY:
            return []
        return [May(status, lambda _answer: self._model.forget(upload)) for status in GONE]

    def _lost(self, upload: Upload, *, may_have_ended: bool = False) -> None:
        upload.is_sure = upload.is_sure and not may_have_ended
        if upload.face == "tus" and not upload.is_published:
            self._model.lost(upload, 0, b"")


def _after(may: May, then: Callable[[Answer], None]) -> May:
    effect = may.effect

    def both(answer: Answer) -> None:
        effect(answer)
        then(answer)

    may.effect = both
    return may


def _boolean(value: bool) -> str:
    return "?1" if value else "?0"


def _words_of(upload: Upload) -> list[tuple[str, str]]:
    return [("Tus-Resumable", "1.0.0")] if upload.face == "tus" else []


def _tus_fields(checksums: Checksums, body: Body, whole: bytes | None) -> list[tuple[str, str]]:
    fields = [("Tus-Resumable", "1.0.0"), *replace(checksums, piece=None).fields(body, whole)]
    if checksums.piece is not None:
        digest = sha256(body.content) if checksums.piece else wrong(body)
        fields.append(("Upload-Checksum", f"sha256 {base64(digest)}"))
    return fields
