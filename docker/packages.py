"""Tell what a container's environment holds: size, packages, licences. Standard library alone, it runs in an image.

In: the environment of the Python that runs this. Out: one line a package; exit code 1 where a licence is missing or
would bind what links with it (GPL, AGPL), so that no image is built with it by accident.

    python docker/packages.py
"""

import re
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

# What the Lesser GPL covers may be used by any program; the GPL and the AGPL bind it.
LESSER = re.compile(r"LGPL|(lesser|library) general public", re.IGNORECASE)
BINDING = re.compile(r"GPL|general public", re.IGNORECASE)
# What a package itself does not say. This one is empty: it names the parts of CUDA, each of which says its licence.
TOLD_ELSEWHERE = {"cuda-toolkit": "NVIDIA's licence for CUDA"}


def main() -> int:
    """Print the list."""
    found = sorted(
        {one.metadata["Name"].lower(): one for one in metadata.distributions()}.items(), key=lambda pair: pair[0]
    )
    bad = []
    for name, distribution in found:
        told = licence(distribution)
        print(f"{name:40} {distribution.version:18} {told or 'UNKNOWN'}")
        if not told or BINDING.search(LESSER.sub("", told)):
            bad.append(name)
    folder = Path(sysconfig.get_path("purelib"))
    size = sum(path.lstat().st_size for path in folder.rglob("*"))
    print(f"{len(found)} packages, {size / 1e6:,.0f} MB")
    if bad:
        print(f"licence unknown, or binding what links with it: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


def licence(distribution: metadata.Distribution) -> str:
    """In the package's own words: SPDX expression, classifiers, licence field, or how its licence file begins."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [one.split(" :: ")[-1] for one in about.get_all("Classifier") or [] if one.startswith("License ::")]
    named = [one for one in classifiers if one != "OSI Approved"]
    if named:
        return ", ".join(named)
    field = str(about.get("License") or "").strip()
    if field and field.upper() != "UNKNOWN":
        return field.splitlines()[0][:80]
    for path in distribution.files or []:
        if path.name.upper().startswith(("LICEN", "COPYING")):
            return path.read_text(encoding="utf-8").strip().splitlines()[0].strip()[:80]
    return TOLD_ELSEWHERE.get(about["Name"].lower(), "")


if __name__ == "__main__":
    sys.exit(main())
