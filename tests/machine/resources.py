"""Upload resources of tus and of the IETF draft: the requests, and what the protocol says to them (5.2, 5.3)."""

from dataclasses import dataclass

from tests.machine.answers import Expected, May, exactly, offset_of
from tests.machine.checksums import Checksums, tus_fields
from tests.machine.content import Content
from tests.machine.model import Model
from tests.machine.uploads import Is, Upload
from tests.machine.wire import DRAFT_TYPE, TUS_TYPE, Body, Request
from tests.support.http import Answer

GONE = (404, 410)
"""What has ended: tus allows both, and the protocol does not choose."""


@dataclass(frozen=True)
class Words:
    """The statuses of a face.

    Attributes:
        seen: of HEAD.
        grown, done: of a PATCH after which something is missing, and nothing.
        mismatch: of a wrong digest.
        at_end: of a PATCH of a published upload.
    """

    seen: int
    grown: int
    done: int
    mismatch: int
    at_end: int


WORDS = {
    "tus": Words(seen=200, grown=204, done=204, mismatch=460, at_end=403),
    "draft": Words(seen=204, grown=204, done=201, mismatch=400, at_end=400),
}


@dataclass(frozen=True)
class Patch:
    """A PATCH of an upload.

    Attributes:
        piece: whether its digest is right; None without one.
        whole: the digest of the whole file that it declares.
        after: what the upload holds when all of it has come.
        publishes: whether the file is published if nothing is missing then.
        promises: whether it says that nothing will be missing.
    """

    upload: Upload
    offset: int
    body: Body
    piece: bool | None
    whole: bytes | None
    after: Content
    publishes: bool
    promises: bool

    @property
    def end(self) -> int:
        return self.offset + len(self.body.content)

    @property
    def arrived(self) -> bytes:
        """Within the total."""
        return self.body.arrived[: self.upload.slot.total - self.offset]


class Resources:
    """Args: model: what the requests are judged by, and change."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def head(self, upload: Upload) -> tuple[Request, Expected]:
        request = Request("HEAD", upload.secret, _face_of(upload))
        mays = self._if_gone(upload)
        if self._model.certainty(upload):
            mays += self._seen(upload)
        return request, Expected(mays, lambda: self._lost(upload))

    def _seen(self, upload: Upload) -> list[May]:
        model, content, total = self._model, upload.content, upload.slot.total
        seen, is_draft = WORDS[upload.face].seen, upload.face == "draft"

        def tell(answer: Answer) -> None:
            upload.is_sure = True
            model.keep(upload)
            content.tell(offset_of(answer))

        def end(_answer: Answer) -> None:
            upload.is_published, upload.is_half_published = True, False

        mays = []
        if upload.is_published or upload.is_half_published:
            mays.append(May(seen, end, exactly(total), headers={"Upload-Complete": "?1"} if is_draft else {}))
        if is_draft and not upload.is_published:
            mays.append(May(seen, tell, content.offsets, headers={"Upload-Complete": "?0"}))
        elif not upload.is_published and not upload.is_half_published:
            if content.may_be_complete:  # to tus an offset of all is the end: who is told so may rely on the file
                mays += model.finishing(upload, content, good=seen, bad=460, offsets=exactly(total))
            mays.append(May(seen, tell, range(content.least, min(content.most + 1, total))))
        return mays

    def delete(self, upload: Upload) -> tuple[Request, Expected]:
        request = Request("DELETE", upload.secret, _face_of(upload))
        mays = self._if_gone(upload)
        if upload.is_published or upload.is_half_published:
            mays.append(May(410))
        if self._model.certainty(upload) and not upload.is_published:
            mays.append(May(204, lambda _answer: self._model.forget(upload)))

        def lose() -> None:
            upload.is_sure = False
            self._lost(upload)

        return request, Expected(mays, lose)

    def patch(
        self, upload: Upload, offset: int, body: Body, checksums: Checksums, *, is_last: bool
    ) -> tuple[Request, Expected]:
        """Args: is_last: Upload-Complete of the draft; the last PATCH of tus is the one that reaches the total."""
        is_draft = upload.face == "draft"
        if self._model.certainty(upload) is Is.MAYBE:
            upload.doubt()
        after = upload.content.copy().record(offset, body.content[: upload.slot.total - offset])
        whole = checksums.whole_digest(after, body)
        if is_draft:
            fields = [("Upload-Complete", "?1" if is_last else "?0"), ("Content-Type", DRAFT_TYPE)]
            fields += checksums.fields(body, whole)
        else:
            fields = [("Content-Type", TUS_TYPE), *tus_fields(checksums, body, whole)]
        request = Request("PATCH", upload.secret, [("Upload-Offset", str(offset)), *fields], body)
        publishes, promises = is_last or not is_draft, is_last and is_draft
        patch = Patch(upload, offset, body, checksums.piece, whole, after, publishes, promises)
        return request, Expected(self._patched(patch), lambda: self._patch_lost(patch))

    def _patched(self, patch: Patch) -> list[May]:
        upload, offsets = patch.upload, patch.upload.content.offsets
        mays = self._if_gone(upload)
        if upload.is_published or upload.is_half_published:
            total = upload.slot.total
            is_elsewhere = upload.face == "tus" and patch.offset != total
            mays.append(May(409, offsets=range(total, total + 1)) if is_elsewhere else May(WORDS[upload.face].at_end))
        if upload.is_published or not self._model.certainty(upload):
            return mays

        def tell(answer: Answer) -> None:
            self._model.keep(upload)
            upload.content.tell(offset_of(answer))

        if patch.offset not in offsets or len(offsets) > 1:
            mays.append(May(409, tell, offsets))
        return mays if patch.offset not in offsets else mays + (self._refused(patch) or self._taken(patch))

    def _refused(self, patch: Patch) -> list[May]:
        """Refusals of what begins where the upload stands."""
        upload, body, total = patch.upload, patch.body, patch.upload.slot.total
        is_open = not body.has_length

        def keep_some(_answer: Answer) -> None:
            # A body whose length nobody told is too long, or too short, only when it has come.
            upload.content.may_record(patch.offset, patch.arrived if is_open and patch.piece is not False else b"")
            upload.declare(patch.whole if is_open else None, is_refused=True)
            self._model.keep(upload)

        def break_off(_answer: Answer) -> None:
            arrived = b"" if patch.piece is not None else patch.arrived  # its digest was never verified, or wrong
            upload.content.record(patch.offset, arrived)
            upload.declare(patch.whole, is_refused=not body.is_cut)
            self._model.keep(upload, with_bytes=bool(arrived))

        if patch.end > total and not (body.is_cut and is_open and patch.offset + body.sent <= total):
            # It ends an upload of the draft, whose client has another idea of the file. Which status is nowhere said.
            refuse = keep_some if upload.face == "tus" else lambda _answer: self._model.forget(upload)
            return [May(413, refuse), May(400, refuse)]
        if patch.promises and patch.end != total and not is_open:
            return [May(400, keep_some)]
        if body.is_cut:
            return [May(400, break_off)]
        if patch.piece is False:
            return [May(WORDS[upload.face].mismatch, break_off)]
        return [May(400, keep_some)] if patch.promises and patch.end != total else []

    def _taken(self, patch: Patch) -> list[May]:
        upload, words, is_draft = patch.upload, WORDS[patch.upload.face], patch.upload.face == "draft"

        def grow(answer: Answer) -> None:
            upload.content = patch.after
            upload.declare(patch.whole)
            upload.is_sure = True
            self._model.keep(upload, with_bytes=bool(patch.body.content))
            patch.after.tell(offset_of(answer))

        if not (patch.after.is_complete and patch.publishes):
            return [May(words.grown, grow, exactly(patch.end), headers={"Upload-Complete": "?0"} if is_draft else {})]
        return self._model.finishing(
            upload,
            patch.after,
            good=words.done,
            bad=words.mismatch,
            whole=patch.whole,
            offsets=exactly(patch.end),
            headers={"Upload-Complete": "?1"} if is_draft else {},
        )

    def _patch_lost(self, patch: Patch) -> None:
        upload = patch.upload
        if patch.offset in upload.content.offsets and self._model.certainty(upload):
            block = b"" if patch.piece is False else patch.arrived
            self._model.lost(upload, patch.offset, block, patch.whole, publishes=patch.publishes)
        if patch.end > upload.slot.total:
            upload.is_sure = False

    def _if_gone(self, upload: Upload) -> list[May]:
        if self._model.certainty(upload) is Is.SURELY:
            return []
        return [May(status, lambda _answer: self._model.forget(upload)) for status in GONE]

    def _lost(self, upload: Upload) -> None:
        if upload.face == "tus" and not upload.is_published:
            self._model.lost(upload, 0, b"")


def _face_of(upload: Upload) -> list[tuple[str, str]]:
    return [("Tus-Resumable", "1.0.0")] if upload.face == "tus" else []
