"""ReviewService, put together; and what goes on by itself for it."""

from __future__ import annotations

from appliance.api.reviewcards import Cards
from appliance.api.reviewing import Reviewing
from appliance.api.reviewsampling import Sampling
from earwitness.v1 import review_pb2_grpc


class Reviews(Cards, Sampling, Reviewing, review_pb2_grpc.ReviewServiceServicer):
    """See review.proto."""
