# The companion's page and the studio's: slim Python and what ui/ needs; no torch, no conversations, no model.
#
#     docker build -f docker/ui.Dockerfile -t mindpal/ui .

# Where no registry is reached, the container tests name one that is made of Debian's packages.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM $PYTHON_IMAGE AS installer
# A mirror of the package index, for pip and uv.
ARG PIP_INDEX_URL
COPY docker/requirements.txt /
RUN --mount=type=cache,target=/root/.cache python -m pip install -q -r /requirements.txt

FROM $PYTHON_IMAGE
LABEL org.opencontainers.image.title="MindPal: the pages" org.opencontainers.image.licenses="Apache-2.0"
# A new volume takes the owner of the folder that it covers.
RUN useradd --uid 10001 --create-home mindpal && install -d -o mindpal -g mindpal \
    /mindpal/family /mindpal/studio /mindpal/runs /mindpal/models /mindpal/hub /mindpal/sets
ARG PIP_INDEX_URL
# Installed here and not copied from a stage, of which a builder would keep both.
RUN --mount=type=cache,target=/root/.cache --mount=type=tmpfs,target=/tmp \
    --mount=from=installer,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    --mount=source=docker,target=/build/docker \
    --mount=source=pyproject.toml,target=/build/pyproject.toml \
    --mount=source=constraints.txt,target=/build/constraints.txt \
    /build/docker/install.sh ui cpu \
    streamlit.web.bootstrap streamlit.testing.v1 openai sqlalchemy.orm alembic.command cryptography argon2 pydantic yaml
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /mindpal
COPY data/*.py data/contract.yaml data/recipe_schema.json data/
# The studio shows the recipes; it imports nothing of the trainer.
COPY finetune/recipes finetune/recipes
COPY ui ui
# A checkout that only its owner may read gives an image that everybody may.
RUN find /mindpal ! -perm -004 -exec chmod a+rX {} +
USER 10001:10001
EXPOSE 8501
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["python", "-m", "data.health", "http://127.0.0.1:8501/_stcore/health"]
ENTRYPOINT ["python", "-m", "ui"]
CMD ["--host", "0.0.0.0"]
