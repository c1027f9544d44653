"""How uploads of tus and of the IETF draft begin: the requests, and what the protocol says to them (5.2, 5.3)."""

from dataclasses import dataclass, replace

from tests.machine.answers import Effect, Expected, May, exactly
from tests.machine.checksums import Checksums, tus_fields
from tests.machine.content import Content
from tests.machine.model import Model
from tests.machine.sessions import Sessions
from tests.machine.uploads import Upload
from tests.machine.wire import TUS_TYPE, Body, Request, Slot, base64, put, signed
from tests.support.http import Answer


@dataclass(frozen=True)
class Beginning:
    """A creation that nothing speaks against.

    Attributes:
        upload: nobody knows it yet.
        is_last: Upload-Complete of the draft; None for tus.
    """

    upload: Upload
    body: Body
    checksums: Checksums
    is_last: bool | None

    @property
    def path(self) -> str:
        return self.upload.slot.path

    @property
    def after(self) -> Content:
        """What the upload holds when all of the body has come."""
        total = self.upload.slot.total
        return Content(total).record(0, self.body.content[:total])


class Creation:
    """Args: model: what the requests are judged by, and change."""

    def __init__(self, model: Model, sessions: Sessions) -> None:
        self._model = model
        self._sessions = sessions

    def tus(self, slot: Slot, body: Body, checksums: Checksums) -> tuple[Request, Expected]:
        """A POST; with a body, creation-with-upload."""
        has_body = bool(body.content) or not body.has_length
        checksums = checksums if has_body else replace(checksums, piece=None)
        beginning = Beginning(self._model.begun("tus", "", slot), body, checksums, None)
        whole = checksums.whole_digest(beginning.after, body)
        fields = tus_fields(checksums, body, whole)
        fields += [("Upload-Length", str(slot.total)), ("Upload-Metadata", f"filetype {base64(slot.type.encode())}")]
        if has_body:
            fields.append(("Content-Type", TUS_TYPE))
        return Request("POST", signed(slot), fields, body), self._begun(beginning, whole)

    def draft(
        self, slot: Slot, body: Body, checksums: Checksums, *, is_last: bool, declares: bool = True
    ) -> tuple[Request, Expected]:
        """A PUT with Upload-Complete. Args: declares: whether Upload-Length is there."""
        beginning = Beginning(self._model.begun("draft", "", slot), body, checksums, is_last)
        whole = checksums.whole_digest(beginning.after, body)
        fields = [("Upload-Complete", "?1" if is_last else "?0"), *checksums.fields(body, whole)]
        request = put(slot, "", body, [*fields, ("Upload-Length", str(slot.total))] if declares else fields)
        refusal = self._contradiction(slot, body, is_last=is_last, declares=declares)
        if refusal:
            return request, Expected(refusal)
        if is_last and body.has_length:  # everything at once: a plain PUT
            digests = checksums.of_whole(body, whole)
            mays = self._sessions.whole_mays(slot, "", body, digests)
            return request, Expected(mays, lambda: self._sessions.whole_lost(slot, "", body, digests))
        return request, self._begun(beginning, whole)

    def _contradiction(self, slot: Slot, body: Body, *, is_last: bool, declares: bool) -> list[May]:
        """Refusals for what the draft's fields say of each other."""
        length = len(body.content)
        if not declares and not (is_last and body.has_length):
            # "400" for ?0 without a total; "neither Content-Length nor a declared total" is 411.
            return [May(400), *([] if body.has_length else [May(411)])]
        if not declares and length != slot.total:
            return [May(403)]  # Content-Length is the total then, and was not signed
        if body.has_length and (length > slot.total or (is_last and length != slot.total)):
            return [May(400)]
        return []

    def _begun(self, begun: Beginning, whole: bytes | None) -> Expected:
        """What may be answered, where the signature holds and the fields agree."""
        model = self._model
        if begun.path in model.files:
            return Expected([May(409)])
        begun.upload.declare(whole)

        def lose() -> None:
            for other in model.droppable(begun.path):
                other.is_sure = False
            block = b"" if begun.checksums.piece is False else begun.body.content[: begun.upload.slot.total]
            model.lost(begun.upload, 0, block, publishes=begun.is_last is not False)

        mays = self._refused(begun) or self._taken(begun)
        return Expected([*mays, May(429)] if model.leftovers.get(begun.path) else mays, lose)

    def _refused(self, begun: Beginning) -> list[May]:
        """It was refused after it began. Nobody knows where it is, but the server may keep it for a while."""

        def hide(_answer: Answer) -> None:
            self._model.make_room(begun.path)
            self._model.keep(begun.upload)

        length, total = len(begun.body.content), begun.upload.slot.total
        if length > total:
            return [May(413, hide), May(400, hide)]  # which of them is nowhere said
        if begun.body.is_cut:
            return [May(400, hide)]
        if begun.checksums.piece is False:
            return [May(460 if begun.upload.face == "tus" else 400, hide)]
        return [May(400, hide)] if begun.is_last and length < total else []

    def _taken(self, begun: Beginning) -> list[May]:
        upload, after, length = begun.upload, begun.after, len(begun.body.content)
        is_draft = upload.face == "draft"
        if length == upload.slot.total and begun.is_last is not False:
            headers = {"Upload-Complete": "?1"} if is_draft else {}
            mays = self._model.finishing(upload, after, good=201, bad=400 if is_draft else 460, headers=headers)
            return [replace(may, effect=self._locating(upload, may)) for may in mays]

        def begin(answer: Answer) -> None:
            self._model.make_room(begun.path)
            upload.content, upload.secret, upload.is_sure = after, answer["Location"], True
            self._model.keep(upload)
            after.tell(length)

        headers = {"Upload-Complete": "?0"} if is_draft else {}
        return [May(201, begin, exactly(length) if length else None, headers=headers)]

    def _locating(self, upload: Upload, may: May) -> Effect:
        """The effect of ``may``; and tus tells where the published upload is."""

        def effect(answer: Answer) -> None:
            may.effect(answer)
            if upload.face == "tus" and answer.status == 201:
                upload.secret = answer["Location"]

        return effect
