"""A span for each request, exported by OpenTelemetry; imported only by ``tracing``.

Spans follow the semantic conventions for HTTP (1.44) and have the id of the line in the log. Unlike
the conventions they leave out ``url.path`` and ``url.query``, which hold ids and tokens, and
everything about the client: a span must not identify the voter of a vote without a name. So that of
an anonymous request begins a trace of its own, since its caller's trace leads to the voter.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_HEADER_TEMPLATE,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.network_attributes import NETWORK_PROTOCOL_VERSION
from opentelemetry.semconv.attributes.url_attributes import URL_SCHEME
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from storage.errors import StartupRefused

METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
"""Every other method is ``_OTHER`` in the conventions."""
REQUEST_ID = f"{HTTP_RESPONSE_HEADER_TEMPLATE}.x-request-id"
FLUSH_SECONDS = 5.0
"""Maximum time to export the last spans at shutdown."""
UNNAMED = "unknown_service"

log = structlog.get_logger(__name__)


class Spans:
    """The spans of one application.

    The variables ``OTEL_…`` configure sampling, batches and the collector. A thread of
    OpenTelemetry exports the spans from a bounded queue: if the collector is down or slow, spans
    are dropped and requests are not affected.
    """

    def __init__(
        self,
        scheme_of: Callable[[web.BaseRequest], str],
        identity_of: Callable[[web.Request], tuple[str, bool]],
    ) -> None:
        self._scheme_of = scheme_of
        self._identity_of = identity_of
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith(UNNAMED):
            resource = resource.merge(Resource({SERVICE_NAME: "polls"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("polls-service")
        self._propagator = TraceContextTextMapPropagator()

    @web.middleware
    async def trace(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware that makes the span of a request, once its parent is known."""
        began = time.time_ns()
        method = request.method if request.method in METHODS else "_OTHER"
        name = method if method in METHODS else "HTTP"
        attributes: dict[str, str | int | tuple[str]] = {
            HTTP_REQUEST_METHOD: method,
            URL_SCHEME: self._scheme_of(request),
            NETWORK_PROTOCOL_VERSION: f"{request.version.major}.{request.version.minor}",
        }
        resource = request.match_info.route.resource
        if resource is not None:
            attributes[HTTP_ROUTE] = resource.canonical
            name = f"{name} {resource.canonical}"
        status = StatusCode.UNSET
        try:
            response = await handler(request)
        except BaseException as error:
            attributes[ERROR_TYPE] = type(error).__qualname__
            raise
        else:
            attributes[HTTP_RESPONSE_STATUS_CODE] = response.status
            if response.status >= 500:
                attributes[ERROR_TYPE] = str(response.status)
                status = StatusCode.ERROR
            return response
        finally:
            request_id, is_anonymous = self._identity_of(request)
            attributes[REQUEST_ID] = (request_id,)
            parent = Context() if is_anonymous else self._propagator.extract(request.headers)
            span = self._tracer.start_span(
                name, parent, SpanKind.SERVER, attributes=attributes, start_time=began
            )
            span.set_status(status)
            span.end()

    async def exported(self, _: web.Application) -> AsyncIterator[None]:
        """Exports spans while the application runs, and the rest at shutdown."""
        try:
            exporter = OTLPSpanExporter()
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        except ValueError as error:
            raise StartupRefused(
                f"OpenTelemetry does not accept its variables: {error}."
            ) from error
        yield
        # By itself, shutdown() would wait for 30 s.
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        await asyncio.to_thread(last.join, FLUSH_SECONDS)
        if last.is_alive():
            log.warning("last spans not exported", waited=FLUSH_SECONDS)
            exporter.shutdown()  # type: ignore[no-untyped-call] # OpenTelemetry's
