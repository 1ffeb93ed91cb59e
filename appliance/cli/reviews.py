"""`earwitness reviews`: calls that are reviewed, and what came of it over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from appliance.cli import output, reviewfigures, reviewrules
from appliance.cli.connection import bare, resource
from appliance.cli.context import CALL_TIMEOUT_S, Box, DryOption, JsonOption, box
from appliance.cli.exits import Exit, Failure
from appliance.cli.notes import offset_of
from appliance.cli.purposes import TenantOption, tenant_of
from appliance.cli.reviewfigures import percent
from appliance.cli.reviewrules import person
from earwitness import pages
from earwitness.v1 import review_pb2 as pb

app = typer.Typer(
    help="Reviews of calls: next, show, answer, submit, list, figures, rules.", no_args_is_help=True
)
app.add_typer(reviewrules.app, name="rules")
app.command("figures")(reviewfigures.figures)
NameArgument = Annotated[str, typer.Argument(metavar="REVIEW", help="Name or id.")]
_OUTCOMES: Final = {
    "upheld": pb.REVIEW_OUTCOME_UPHELD,
    "reopened": pb.REVIEW_OUTCOME_REOPENED,
    "void": pb.REVIEW_OUTCOME_VOID,
}


@app.command("next")
def next_(
    context: typer.Context, tenant: TenantOption = "", dry: DryOption = False, json: JsonOption = False
) -> None:
    """Take the next review out of the queue; exit code 3 where nothing waits."""
    with box(context) as services:
        request = pb.ClaimNextReviewRequest(parent=tenant_of(services, tenant), validate_only=dry)
        _print(services, services.review.ClaimNextReview(request, timeout=CALL_TIMEOUT_S).review, json)


@app.command("show")
def show(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """A review: questions, answers, score."""
    request = pb.GetReviewRequest(name=resource("reviews", name))
    with box(context) as services:
        _print(services, services.review.GetReview(request, timeout=CALL_TIMEOUT_S).review, json)


@app.command("list")
def list_reviews(
    context: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="waiting, draft, skipped, submitted, acknowledged, disputed, resolved."),
    ] = None,
    agent: Annotated[str, typer.Option("--agent", help="Only of this agent's number.")] = "",
    mine: Annotated[bool, typer.Option("--mine", help="Only assigned to or held by me.")] = False,
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Reviews, newest first; an agent sees the own ones."""
    words = [f"REVIEW_STATE_{one.upper()}" for one in state or ()]
    unknown = [one for one in words if one not in pb.ReviewState.keys()]  # noqa: SIM118 - no dict
    if unknown:
        raise Failure(Exit.USAGE, "no such state: see --help", "USAGE")
    found: list[pb.Review] = []
    with box(context) as services:
        request = pb.ListReviewsRequest(
            parent=tenant_of(services, tenant),
            page_size=1000,
            states=[pb.ReviewState.Value(one) for one in words],
            agent_number=agent,
            mine=mine,
        )
        for page in pages(services.review.ListReviews, request, timeout=CALL_TIMEOUT_S):
            found += page.reviews
    if json:
        output.print_json({"reviews": [output.as_dict(one) for one in found]})
        return
    rows = (
        (
            bare(one.name),
            output.when(one.call_time),
            one.agent_number,
            _state(one),
            bare(one.reviewer or one.assignee),
            percent(one.score, "basis_points") + (" failed" if one.score.failed else ""),
            output.when(one.due_time) if one.HasField("due_time") else "",
        )
        for one in found
    )
    output.table(("ID", "Call", "Agent", "State", "By", "Score", "Due"), rows, empty="No review.")


@app.command("create")
def create(
    context: typer.Context,
    recording: Annotated[str, typer.Argument(help="Name or id of the recording.")],
    scorecard: Annotated[str, typer.Option("--scorecard", help="Name or id.")],
    agent: Annotated[str, typer.Option("--agent", help="Which agent, where the call has several.")] = "",
    assignee: Annotated[str, typer.Option("--assignee", help="Identity that reviews; else anybody.")] = "",
    tenant: TenantOption = "",
    dry: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Put a call into the queue."""
    with box(context) as services:
        parent = tenant_of(services, tenant)
        said = pb.Review(
            recording=resource("recordings", recording),
            scorecard=resource("scorecards", scorecard),
            agent_number=agent,
            assignee=person(assignee, parent),
        )
        request = pb.CreateReviewRequest(parent=parent, review=said, validate_only=dry)
        made = services.review.CreateReview(request, timeout=CALL_TIMEOUT_S).review
    if json:
        output.print_json(output.as_dict(made))
    else:
        output.console.print("valid" if dry else bare(made.name))


@app.command("claim")
def claim(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """Take one review out of the queue."""
    request = pb.ClaimReviewRequest(name=resource("reviews", name))
    _changed(context, lambda services: services.review.ClaimReview, request, json)


@app.command("release")
def release(context: typer.Context, name: NameArgument, json: JsonOption = False) -> None:
    """Give a review back to the queue; what was answered goes."""
    request = pb.ReleaseReviewRequest(name=resource("reviews", name))
    _changed(context, lambda services: services.review.ReleaseReview, request, json)


@app.command("skip")
def skip(
    context: typer.Context,
    name: NameArgument,
    reason: Annotated[str, typer.Argument(help="Why.")],
    json: JsonOption = False,
) -> None:
    """Take a review out of the queue for good."""
    request = pb.SkipReviewRequest(name=resource("reviews", name), reason=reason)
    _changed(context, lambda services: services.review.SkipReview, request, json)


@app.command("assign")
def assign(
    context: typer.Context,
    name: NameArgument,
    assignee: Annotated[str, typer.Argument(help="Identity that reviews; nothing: anybody.")] = "",
    tenant: TenantOption = "",
    json: JsonOption = False,
) -> None:
    """Say who is to review."""
    with box(context) as services:
        who = person(assignee, tenant_of(services, tenant))
        request = pb.AssignReviewRequest(name=resource("reviews", name), assignee=who)
        _print(services, services.review.AssignReview(request, timeout=CALL_TIMEOUT_S).review, json)


@app.command("answer")
def answer(
    context: typer.Context,
    name: NameArgument,
    answers: Annotated[
        list[str] | None,
        typer.Argument(help="QUESTION=yes, no, a number, a choice, or na.", show_default=False),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="QUESTION=words.")] = None,
    at: Annotated[list[str] | None, typer.Option("--at", help="QUESTION=1:30, a place.")] = None,
    json: JsonOption = False,
) -> None:
    """Answer questions of a review that you hold.

    earwitness reviews answer REVIEW greeted=yes calm=4 --text calm="Took her time" --at calm=1:30
    """
    with box(context) as services:
        get = pb.GetReviewRequest(name=resource("reviews", name))
        review = services.review.GetReview(get, timeout=CALL_TIMEOUT_S).review
        kinds = {one.question: one.kind for one in _card(services, review).questions}
        said = {one.question: one for one in review.answers}

        def of(pair: str) -> tuple[pb.ReviewAnswer, str]:
            question, _, value = pair.partition("=")
            if question not in kinds or not value:
                raise Failure(Exit.USAGE, f"{output.plain(question)!r} is no question of it", "USAGE")
            return said.setdefault(question, pb.ReviewAnswer(question=question)), value

        touched: dict[str, pb.ReviewAnswer] = {}
        for pair in answers or ():
            one, value = of(pair)
            _set(one, kinds[one.question], value)
            touched[one.question] = one
        for pair in text or ():
            one, one.text = of(pair)
            touched[one.question] = one
        for pair in at or ():
            one, value = of(pair)
            one.offsets.append(offset_of(value))
            touched[one.question] = one
        request = pb.AnswerReviewRequest(name=review.name, answers=touched.values(), etag=review.etag)
        _print(services, services.review.AnswerReview(request, timeout=CALL_TIMEOUT_S).review, json)


@app.command("submit")
def submit(
    context: typer.Context, name: NameArgument, dry: DryOption = False, json: JsonOption = False
) -> None:
    """End a review that you hold; with --validate-only show the score that it would have."""
    request = pb.SubmitReviewRequest(name=resource("reviews", name), validate_only=dry)
    _changed(context, lambda services: services.review.SubmitReview, request, json)


@app.command("acknowledge")
def acknowledge(
    context: typer.Context,
    name: NameArgument,
    comment: Annotated[str, typer.Argument(help="What you say to it.")] = "",
    json: JsonOption = False,
) -> None:
    """As the agent: you have seen it."""
    request = pb.AcknowledgeReviewRequest(name=resource("reviews", name), comment=comment)
    _changed(context, lambda services: services.review.AcknowledgeReview, request, json)


@app.command("dispute")
def dispute(
    context: typer.Context,
    name: NameArgument,
    comment: Annotated[str, typer.Argument(help="Why you do not agree.")],
    json: JsonOption = False,
) -> None:
    """As the agent: you do not agree."""
    request = pb.DisputeReviewRequest(name=resource("reviews", name), comment=comment)
    _changed(context, lambda services: services.review.DisputeReview, request, json)


@app.command("resolve")
def resolve(
    context: typer.Context,
    name: NameArgument,
    outcome: Annotated[str, typer.Argument(help="upheld, reopened, void.")],
    resolution: Annotated[str, typer.Argument(help="What is said to it.")],
    json: JsonOption = False,
) -> None:
    """Say what comes of a dispute."""
    if outcome not in _OUTCOMES:
        raise Failure(Exit.USAGE, "the outcome is upheld, reopened or void", "USAGE")
    request = pb.ResolveReviewRequest(
        name=resource("reviews", name), outcome=_OUTCOMES[outcome], resolution=resolution
    )
    _changed(context, lambda services: services.review.ResolveReview, request, json)


def _state(one: pb.Review) -> str:
    return output.enum_word(pb.ReviewState, one.state)


def _set(one: pb.ReviewAnswer, kind: pb.QuestionKind.ValueType, value: str) -> None:
    if value == "na":
        one.not_applicable = True
    elif kind == pb.QUESTION_KIND_YES_NO and value in ("yes", "no"):
        one.yes = value == "yes"
    elif kind == pb.QUESTION_KIND_SCALE and value.isascii() and value.isdecimal() and len(value) < 5:
        one.scale = int(value)
    elif kind == pb.QUESTION_KIND_CHOICE:
        one.choice = value
    elif kind == pb.QUESTION_KIND_TEXT:
        one.text = value
    else:
        raise Failure(Exit.USAGE, f"{one.question}: not an answer to this question", "USAGE")


def _card(services: Box, review: pb.Review) -> pb.Scorecard:
    request = pb.GetScorecardRequest(name=review.scorecard, version=review.scorecard_version)
    return services.review.GetScorecard(request, timeout=CALL_TIMEOUT_S).scorecard


def _changed(
    context: typer.Context, method: Callable[[Box], Callable[..., Any]], request: Any, json: bool
) -> None:
    with box(context) as services:
        _print(services, method(services)(request, timeout=CALL_TIMEOUT_S).review, json)


def _print(services: Box, review: pb.Review, json: bool) -> None:
    if json:
        output.print_json(output.as_dict(review))
        return
    score = percent(review.score, "basis_points") + (" failed" if review.score.failed else "")
    changed = " (the scorecard has a newer version)" if review.scorecard_changed else ""
    facts = (
        ("Review", bare(review.name)),
        ("State", _state(review)),
        ("Recording", bare(review.recording) or "(erased)"),
        ("Agent", review.agent_number),
        ("Scorecard", f"{bare(review.scorecard)}, version {review.scorecard_version}{changed}"),
        ("Reviewer", bare(review.reviewer)),
        ("Score", score),
        ("Comment", review.comment),
        ("Resolution", review.resolution),
    )
    output.facts((name, value) for name, value in facts if value)
    if review.recording and not review.withheld:
        listen = f"earwitness recordings download {bare(review.recording)} --purpose {review.purpose}"
        output.console.print(
            f"Listen: {listen}", soft_wrap=True, markup=False, highlight=False
        )  # to be copied
    answers = {one.question: one for one in review.answers}
    lines = {one.question: one for one in review.score.lines}
    rows = (
        (
            one.question,
            one.text,
            _said(answers[one.question]) if one.question in answers else "",
            percent(lines[one.question], "basis_points") if one.question in lines else "",
            answers[one.question].text if one.question in answers else "",
        )
        for one in _card(services, review).questions
    )
    output.table(("ID", "Question", "Answer", "Gives", "Words"), rows, empty="")


def _said(one: pb.ReviewAnswer) -> str:
    kind = one.WhichOneof("value")
    said = {"yes": "yes" if one.yes else "no", "scale": str(one.scale), "choice": one.choice}
    places = " ".join(output.clock(each) for each in one.offsets)
    return f"{'n/a' if kind == 'not_applicable' else said.get(kind or '', '')} {places}".strip()
