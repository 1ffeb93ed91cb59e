"""ReviewService: scorecards, and how a tenant has calls reviewed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from appliance.api import masks, names, reviewconvert
from appliance.api.reviewbase import Base
from appliance.api.scope import caller
from appliance.catalog import purposes, reviews, scorecards, tenants
from appliance.catalog.errors import EtagMismatchError
from appliance.catalog.scorecards import Scorecard, Settings
from appliance.model import new_id
from earwitness.v1 import review_pb2 as pb

_FIELDS: Final = ("display_name", "questions", "pass_percent")
_SETTINGS: Final = ("purpose", "forget_scores")


class Cards(Base):
    """See review.proto."""

    async def CreateScorecard(
        self, request: pb.CreateScorecardRequest, context: Any
    ) -> pb.CreateScorecardResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        content, now_ns = reviewconvert.content(request.scorecard), self._parts.clock_ns()
        made = Scorecard(new_id(), tenant_id, 1, 1, content, now_ns, None, caller().name, now_ns)

        def check(connection: sa.Connection) -> None:
            tenants.get_tenant(connection, tenant_id)
            scorecards.check_new(connection, tenant_id)

        if request.validate_only:
            await self._parts.store.read(check)
            answer = reviewconvert.scorecard(made)
            for field in ("name", "create_time", "version_time", "etag"):
                answer.ClearField(field)
            return pb.CreateScorecardResponse(scorecard=answer)

        def work(connection: sa.Connection) -> str:
            check(connection)
            scorecards.add(connection, made)
            return made.scorecard_id

        done = await self._once("CreateScorecard", request, work)
        return pb.CreateScorecardResponse(scorecard=await self._card(tenant_id, done))

    async def GetScorecard(self, request: pb.GetScorecardRequest, context: Any) -> pb.GetScorecardResponse:
        tenant_id, scorecard_id = names.child(request.name, "scorecards")
        return pb.GetScorecardResponse(scorecard=await self._card(tenant_id, scorecard_id, request.version))

    async def ListScorecards(
        self, request: pb.ListScorecardsRequest, context: Any
    ) -> pb.ListScorecardsResponse:
        tenant_id = names.one_tenant(request.parent, "parent")
        page = self._page("ListScorecards", request)

        def work(connection: sa.Connection) -> list[Scorecard]:
            tenants.get_tenant(connection, tenant_id)
            return scorecards.listed(
                connection, tenant_id, page.size + 1, page.after, archived=request.show_archived
            )

        found = await self._parts.store.read(work)
        answer = pb.ListScorecardsResponse(scorecards=map(reviewconvert.scorecard, found[: page.size]))
        size = page.cut(answer.scorecards)
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = page.token(last.create_ns, last.scorecard_id)
        return answer

    async def UpdateScorecard(
        self, request: pb.UpdateScorecardRequest, context: Any
    ) -> pb.UpdateScorecardResponse:
        tenant_id, scorecard_id = names.child(request.scorecard.name, "scorecards", "scorecard.name")
        paths = masks.paths(request.update_mask, request.scorecard, _FIELDS)
        who, now_ns = caller().name, self._parts.clock_ns()

        def before(connection: sa.Connection) -> tuple[Scorecard, Any]:
            found = scorecards.get(connection, scorecard_id, tenant_id, etag=request.scorecard.etag)
            said = masks.merged(reviewconvert.scorecard(found), request.scorecard, paths)
            return found, reviewconvert.content(said)

        def drafts(connection: sa.Connection, newest: int) -> int:
            return reviews.drafts(connection, scorecard_id, newest)

        if request.validate_only:

            def look(connection: sa.Connection) -> pb.UpdateScorecardResponse:
                found, content = before(connection)
                after = scorecards.next_version(found, content, who, now_ns)
                return pb.UpdateScorecardResponse(
                    scorecard=reviewconvert.scorecard(after), draft_count=drafts(connection, after.newest)
                )

            return await self._parts.store.read(look)

        def work(connection: sa.Connection) -> str:
            found, content = before(connection)
            scorecards.changed(connection, found, content, who, now_ns)
            return scorecard_id

        await self._once("UpdateScorecard", request, work)

        def after(connection: sa.Connection) -> pb.UpdateScorecardResponse:
            found = scorecards.get(connection, scorecard_id, tenant_id)
            return pb.UpdateScorecardResponse(
                scorecard=reviewconvert.scorecard(found), draft_count=drafts(connection, found.newest)
            )

        return await self._parts.store.read(after)

    async def ArchiveScorecard(
        self, request: pb.ArchiveScorecardRequest, context: Any
    ) -> pb.ArchiveScorecardResponse:
        tenant_id, scorecard_id = names.child(request.name, "scorecards")
        now_ns = self._parts.clock_ns()

        def found(connection: sa.Connection) -> Scorecard:
            return scorecards.get(connection, scorecard_id, tenant_id, etag=request.etag)

        if request.validate_only:
            one = await self._parts.store.read(found)
            if one.archive_ns is None:
                one = replace(one, archive_ns=now_ns)
            return pb.ArchiveScorecardResponse(scorecard=reviewconvert.scorecard(one))

        def work(connection: sa.Connection) -> str:
            found(connection)
            scorecards.archive(connection, scorecard_id, now_ns)
            return scorecard_id

        await self._once("ArchiveScorecard", request, work)
        return pb.ArchiveScorecardResponse(scorecard=await self._card(tenant_id, scorecard_id))

    async def ListScorecardVersions(
        self, request: pb.ListScorecardVersionsRequest, context: Any
    ) -> pb.ListScorecardVersionsResponse:
        tenant_id, scorecard_id = names.child(request.parent, "scorecards", "parent")
        page = self._page("ListScorecardVersions", request)

        def work(connection: sa.Connection) -> list[Scorecard]:
            scorecards.get(connection, scorecard_id, tenant_id)
            before = page.after[0] if page.after else None
            return scorecards.versions(connection, scorecard_id, page.size + 1, before)

        found = await self._parts.store.read(work)
        answer = pb.ListScorecardVersionsResponse(scorecards=map(reviewconvert.scorecard, found[: page.size]))
        size = page.cut(answer.scorecards)
        if len(found) > size:
            answer.next_page_token = page.token(found[size - 1].version, "")
        return answer

    async def GetReviewSettings(
        self, request: pb.GetReviewSettingsRequest, context: Any
    ) -> pb.GetReviewSettingsResponse:
        tenant_id = names.settings_of_reviews(request.name)
        return pb.GetReviewSettingsResponse(settings=await self._settings(tenant_id))

    async def UpdateReviewSettings(
        self, request: pb.UpdateReviewSettingsRequest, context: Any
    ) -> pb.UpdateReviewSettingsResponse:
        tenant_id = names.settings_of_reviews(request.settings.name, "settings.name")
        paths = masks.paths(request.update_mask, request.settings, _SETTINGS)

        def after(connection: sa.Connection) -> Settings:
            tenants.get_tenant(connection, tenant_id)
            before = scorecards.settings(connection, tenant_id)
            if request.settings.etag not in ("", before.etag):
                raise EtagMismatchError("the settings changed since", field="etag")
            said = masks.merged(reviewconvert.settings(tenant_id, before), request.settings, paths)
            found = Settings(said.purpose, not said.forget_scores)
            if found.purpose != before.purpose:
                purposes.check_stated(connection, tenant_id, [found.purpose], "settings.purpose")
            return found

        if request.validate_only:
            found = await self._parts.store.read(after)
            return pb.UpdateReviewSettingsResponse(settings=reviewconvert.settings(tenant_id, found))

        def work(connection: sa.Connection) -> str:
            scorecards.put_settings(connection, tenant_id, after(connection))
            return tenant_id

        await self._once("UpdateReviewSettings", request, work)
        return pb.UpdateReviewSettingsResponse(settings=await self._settings(tenant_id))

    async def _card(self, tenant_id: str | None, scorecard_id: str, version: int = 0) -> pb.Scorecard:
        return reviewconvert.scorecard(
            await self._parts.store.read(lambda c: scorecards.get(c, scorecard_id, tenant_id, version))
        )

    async def _settings(self, tenant_id: str) -> pb.ReviewSettings:
        def work(connection: sa.Connection) -> Settings:
            tenants.get_tenant(connection, tenant_id)
            return scorecards.settings(connection, tenant_id)

        return reviewconvert.settings(tenant_id, await self._parts.store.read(work))
