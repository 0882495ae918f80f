"""What a whole run of the tests spent most time on.

In: the reports that pytest wrote (--junitxml). Out: the ten slowest tests of all of them, what each starts and ends included.

    python -m tests.slowest artifacts/tests/*.xml
"""

import sys
from xml.etree import ElementTree

SHOWN = 10


def main() -> int:
    """Read and print."""
    tests = [
        (float(case.attrib["time"]), f"{case.attrib['classname']}.{case.attrib['name']}")
        for path in sys.argv[1:]
        for case in ElementTree.parse(path).iter("testcase")
    ]
    print(f"{len(tests)} tests; of their {sum(seconds for seconds, _ in tests):.0f} s the slowest {SHOWN} took:")
    for seconds, name in sorted(tests, reverse=True)[:SHOWN]:
        print(f"{seconds:8.1f} s  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
