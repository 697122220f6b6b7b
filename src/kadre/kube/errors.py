"""What an API server refuses, by what the caller should do about it."""

from __future__ import annotations

from http import HTTPStatus


class ApiError(Exception):
    """The API server's answer to a request that failed. `status`: of HTTP, 0 where there was no answer.

    `reason` is the API's own word such as NotFound or Conflict; `retry_after`: seconds it asks to wait.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def missing(self) -> bool:
        """There is no such object, or no such kind."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Somebody else changed the object, or made it first."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def forbidden(self) -> bool:
        """We have no right to this."""
        return self.status == HTTPStatus.FORBIDDEN

    @property
    def expired(self) -> bool:
        """The point in time from which events were wanted is too long ago: list anew."""
        return self.status == HTTPStatus.GONE or self.reason in {"Expired", "Gone"}

    @property
    def refused(self) -> bool:
        """The object itself is wrong: the same again would be refused again."""
        wrong = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
        return self.status in wrong
