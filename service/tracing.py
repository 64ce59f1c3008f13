"""Traces: whether they are wanted; nothing of OpenTelemetry is imported where they are not."""

from aiohttp import web

from service import keys
from storage.errors import StartupRefused


def add_tracing(app: web.Application) -> None:
    """A span for each request, where the settings ask for traces.

    Raises ``StartupRefused`` where the extra ``tracing`` is missing.
    """
    if not app[keys.SETTINGS].traces:
        return
    try:
        from service.spans import Spans  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise StartupRefused(
            "Traces are asked for by the variables of OpenTelemetry, and it is not installed: "
            "pip install 'polls-service[tracing]', or set OTEL_TRACES_EXPORTER=none."
        ) from error
    spans = Spans()
    app.middlewares.insert(0, spans.middleware)
    app.cleanup_ctx.append(spans.exported)
