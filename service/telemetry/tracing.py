"""Tracing. OpenTelemetry is imported only if it is asked for."""

from collections.abc import Callable

from aiohttp import web

from storage.errors import StartupRefused


def add_tracing(
    app: web.Application,
    scheme_of: Callable[[web.BaseRequest], str],
    identity_of: Callable[[web.Request], tuple[str, bool]],
) -> None:
    """Adds a span for each request.

    ``identity_of`` is asked when a request was answered: for its id in the log, and whether it is
    anonymous, and so not part of its caller's trace.

    Raises ``StartupRefused`` if the extra ``tracing`` is not installed.
    """
    try:
        from service.telemetry.spans import Spans  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise StartupRefused(
            "The OTEL_ variables ask for traces, but OpenTelemetry is not installed. Install the "
            "extra tracing: pip install --editable '.[tracing]'. Or set OTEL_TRACES_EXPORTER=none."
        ) from error
    spans = Spans(scheme_of, identity_of)
    app.middlewares.insert(0, spans.trace)
    app.cleanup_ctx.append(spans.exported)
