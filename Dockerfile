# One image for every role: `docker run routemq` is the router, `docker run routemq --queue-work` a worker.

FROM python:3.12-slim AS packages
RUN python -m venv /opt/venv
COPY requirements.lock .
# Wheels only: nothing is compiled, so that neither stage needs a compiler.
RUN /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --only-binary=:all: \
        --require-hashes -r requirements.lock

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /app routemq
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY . .
# Compiled now, as the roles cannot write here later; storage/ is where SQLite lies by default.
RUN /opt/venv/bin/python -m compileall -q . && install -d -o routemq storage
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "main.py"]
