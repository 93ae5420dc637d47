"""The table from exception to HTTP status."""

from __future__ import annotations

import pytest

from corral import errors
from corral.server.errors import error_reply, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ServerClosing(), 503),
        (errors.QueueFull(8, retry_after_s=3), 503),
        (errors.ModelDamaged("m", "why"), 500),
        (errors.BlobMissing("m", "sha256:0"), 500),
        (errors.NotEnoughSpace(2, 1), 507),
        (errors.NotEnoughMemory("m", 2, 1), 500),
        (errors.RunnerDied(-9), 500),
        (errors.RunnerHung(30.0), 500),
        (errors.RunnerFailedToStart("why"), 500),
        (errors.RequestCanceled(), 499),
        (errors.RequestNotFound("r"), 404),
        (errors.BodyTooLarge(1), 413),
        (errors.InvalidGGUF("why"), 400),
        (errors.EngineError(400, "why"), 400),
        (errors.EngineError(0, "why"), 500),
        (ValueError("a bug"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_its_status(error: Exception, status: int) -> None:
    assert status_of(error) == status


def test_a_full_queue_says_when_to_come_back() -> None:
    assert error_reply(errors.QueueFull(8, retry_after_s=3)).headers["retry-after"] == "3"


def test_the_text_of_an_unexpected_error_is_not_shown() -> None:
    assert b"/secret/path" not in bytes(error_reply(OSError("/secret/path")).body)
