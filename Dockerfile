FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/build && python -m venv --without-pip /opt/quorum

# The locked dependencies are a layer of their own: a change of the code does not install them again.
COPY requirements.txt requirements-build.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements-build.txt && \
    /opt/build/bin/pip --python /opt/quorum/bin/python install --require-hashes --only-binary :all: -r requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY app app
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . && \
    /opt/build/bin/pip --python /opt/quorum/bin/python install --no-deps --no-index /tmp/wheel/quorum-*.whl


FROM python:3.11-slim
LABEL org.opencontainers.image.title="quorum" org.opencontainers.image.licenses="Apache-2.0"

# A fixed number, so that a volume's owner can be set from outside.
RUN groupadd --system --gid 10001 quorum && \
    useradd --system --uid 10001 --gid quorum --home-dir /data --no-create-home --shell /usr/sbin/nologin quorum && \
    install -d -o quorum -g quorum -m 0700 /data
COPY --from=build /opt/quorum /opt/quorum

# Settings are QUORUM_* variables. A public address is refused without a key: give QUORUM_ADMIN_KEY (16 characters or more).
ENV PATH=/opt/quorum/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    QUORUM_HOST=0.0.0.0 \
    QUORUM_PORT=8000 \
    QUORUM_WORKERS=1 \
    QUORUM_DATA_DIR=/data

# Only /data (embedded store, generated secret) and /tmp are written to: the rest may be mounted read-only.
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# Liveness alone: a replica without its store still serves, and says so at /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=1s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['QUORUM_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

# The supervisor is process 1: it starts the workers, passes signals on and reaps what ends, so no init is needed.
ENTRYPOINT ["quorum"]
CMD ["serve"]
