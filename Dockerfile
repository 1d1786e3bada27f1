# One image for all five services; the command chooses which: `python -m ai_service`.
# Pin the base by digest where you build: a digest cannot be checked without the registry, so none is written here.
FROM python:3.12-slim AS libraries

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.txt /build/requirements.txt
RUN python -m venv /opt/assay \
    && /opt/assay/bin/python -m pip install --quiet --require-hashes --only-binary :all: -r /build/requirements.txt


FROM python:3.12-slim

RUN groupadd --gid 10001 assay \
    && useradd --uid 10001 --gid assay --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin assay \
    && install --directory --owner assay --group assay --mode 0750 /var/lib/assay /var/lib/assay-backups
COPY --from=libraries /opt/assay /opt/assay
WORKDIR /srv/assay
COPY common common
COPY ai_service ai_service
COPY user_service user_service
COPY alert_service alert_service
COPY log_service log_service
COPY external_apis_services external_apis_services
# for `python -m assay`: move, backup, restore
COPY local_stack local_stack
COPY assay assay

# compiled kernels are kept beside the data: the code itself is not writable
ENV PATH=/opt/assay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    NUMBA_CACHE_DIR=/var/lib/assay/kernels
USER assay
STOPSIGNAL SIGTERM
