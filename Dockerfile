# The gateway with routers that read prompts (`embed`), discovery by DNS (`dns`) and traces (`otel`).
#
#     docker build --tag pointsman:0.1.0 .
#
# Any Debian image with Python 3.11 or newer, its `venv` and apt will do; both stages must have the same Python.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
# `strip` takes 60 MB of debugging symbols out of the wheels. It stays in this stage, so its version may be any.
# What dpkg lists before is what the image has.
# hadolint ignore=DL3008
RUN mkdir -p /base/etc /base/var/lib/dpkg && \
    cp /etc/os-release /base/etc/ && \
    cp /var/lib/dpkg/status /base/var/lib/dpkg/ && \
    apt-get update && \
    apt-get install --yes --no-install-recommends binutils && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /build
# The product's environment has no pip: the build's own one fills it.
RUN python3 -m venv tools && \
    python3 -m venv --without-pip /opt/pointsman
COPY requirements/build.lock requirements/image.lock requirements/
RUN tools/bin/python -m pip install --require-hashes --only-binary :all: -r requirements/build.lock && \
    tools/bin/python -m pip --python /opt/pointsman/bin/python install --no-compile \
        --require-hashes --only-binary :all: -r requirements/image.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY routers routers
COPY backends backends
RUN tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . && \
    tools/bin/python -m pip --python /opt/pointsman/bin/python install --no-compile --no-deps wheels/*.whl
COPY scripts/trim_image.py scripts/sbom.py scripts/
# Compiled once and never checked against the source's date, since nothing can be written where it runs.
RUN python3 scripts/trim_image.py /opt/pointsman && \
    /opt/pointsman/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/pointsman/lib && \
    python3 scripts/sbom.py /opt/pointsman --root /base --out /opt/pointsman/sbom.cdx.json && \
    mkdir /build/state

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Pointsman" \
      org.opencontainers.image.description="An LLM router serving gateway: one OpenAI-style address, the right vLLM model for each request" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# onnxruntime would send its makers word of its use.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
COPY --from=build /opt/pointsman /opt/pointsman
# For the ledger and for what learners keep: the one folder that its user may write to, beside /tmp.
COPY --from=build --chown=10001:10001 /build/state /var/lib/pointsman
WORKDIR /var/lib/pointsman
# By number, so that a cluster can see that it is not root, and no account is needed.
USER 10001:10001
EXPOSE 8080
# Whether the process lives. That some model can be served is for /readyz to say: a restart would not help there.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/pointsman/bin/python", "-I", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["/opt/pointsman/bin/pointsman"]
# Beyond the container's own loopback it listens only if the configuration says who may call, or with --insecure.
CMD ["serve", "--config", "/etc/pointsman/gateway.yaml", "--host", "0.0.0.0", "--port", "8080"]
