# The worker: TensorFlow, Keras and the exporters. Build it from the root of the repository:
#   docker build -f deploy/worker.Dockerfile -t fitserve-worker .
# With --build-arg ACCELERATOR=gpu or tpu it gets what deploy/accelerators/ lists for it.

FROM python:3.11-slim-bookworm AS uv
COPY deploy/locks/bootstrap.txt /tmp/locks/
RUN pip install --no-cache-dir --no-deps --require-hashes -r /tmp/locks/bootstrap.txt
ENV UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1

FROM uv AS wheels
WORKDIR /src
COPY . .
# The build backend is taken by its hash too: the developers' lock file names it.
RUN uv build --wheel --require-hashes --build-constraints deploy/locks/dev.txt --out-dir /wheels . \
    && uv build --wheel --require-hashes --build-constraints deploy/locks/dev.txt --out-dir /wheels client

FROM node:20-bookworm-slim AS node
COPY deploy/locks/tfjs /opt/fitserve/tfjs
RUN npm ci --prefix /opt/fitserve/tfjs --ignore-scripts --no-audit --no-fund

FROM uv AS installed
RUN uv venv --python /usr/local/bin/python /opt/fitserve
ENV VIRTUAL_ENV=/opt/fitserve
COPY deploy/locks/worker.txt /tmp/locks/
RUN uv pip install --no-deps --require-hashes -r /tmp/locks/worker.txt
COPY deploy/locks/tfjs.txt /tmp/locks/
RUN uv pip install --no-deps --require-hashes --target /opt/fitserve/tfjs/python -r /tmp/locks/tfjs.txt
# After the rest, since tensorflow-tpu has the same files as tensorflow and is meant to win.
ARG ACCELERATOR=cpu
COPY deploy/accelerators/${ACCELERATOR}.txt /tmp/locks/
RUN uv pip install --no-deps --require-hashes -r "/tmp/locks/${ACCELERATOR}.txt"

FROM python:3.11-slim-bookworm
# A new volume takes the owner of the folder it is mounted on.
RUN groupadd --gid 10001 fitserve \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/fitserve/home fitserve \
    && for folder in home data store; do \
        install -d -m 0750 -o fitserve -g fitserve "/var/lib/fitserve/$folder"; done
# What others wrote changes seldom and is a layer of its own, of two gigabytes; our wheels follow.
COPY --from=installed /opt/fitserve /opt/fitserve
# TensorFlow.js and what runs it, to prove exports by.
COPY --from=node /opt/fitserve/tfjs /opt/fitserve/tfjs
COPY --from=node /usr/local/bin/node /usr/local/bin/node
RUN --mount=type=bind,from=wheels,source=/wheels,target=/tmp/wheels \
    pip --python /opt/fitserve/bin/python install --no-cache-dir --no-deps --no-index /tmp/wheels/*.whl
ENV PATH=/opt/fitserve/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/lib/fitserve
USER 10001:10001
CMD ["python", "-m", "service.worker"]
