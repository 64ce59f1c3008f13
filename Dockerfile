# The service for a MongoDB that is elsewhere: docs/deployment.md tells what it has to be given.
# make test-image builds and runs it. To pin its base by content too, write its digest behind both tags:
# docs/deployment.md says how to get it.

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/polls
COPY constraints.txt pyproject.toml ./
# Before the code, so that a change of the code installs nothing of this again.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['speed'], sep='\n')" > requirements.txt
RUN pip --python /opt/polls/bin/python install --constraint constraints.txt --requirement requirements.txt
RUN pip install --constraint constraints.txt setuptools
COPY README.md LICENSE ./
COPY schemas ./schemas
COPY service ./service
COPY storage ./storage
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist .
RUN pip --python /opt/polls/bin/python install --no-index --no-deps dist/*.whl

FROM python:3.11.14-slim-bookworm
ENV PATH=/opt/polls/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 POLLS_HOST=0.0.0.0
COPY --from=build /opt/polls /opt/polls
# A number, so that Kubernetes can see that it is not root; it owns nothing, and needs no directory.
USER 10001:10001
WORKDIR /
EXPOSE 8080
# Whether the process answers, not whether the database does: a start again would not help that.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ.get('POLLS_PORT') or 8080}/healthz\", timeout=3)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
