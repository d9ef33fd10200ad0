"""Wheels that a bare GPU machine lacks: fetched where there is a network, unpacked there.

    python benchmarks/gpu_wheels.py            (make gpu-wheels)

Machines with a GPU usually have torch, numpy and what these bring along, and often no network.  The
rest fits into a few megabytes, since of envpool and its assets only Atari is kept.
"""

import importlib
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".gpu-wheels"

PACKAGES = (
    *("gymnasium", "farama-notifications", "tyro", "docstring-parser", "typeguard", "msgspec"),
    *("jaxtyping", "wadler-lindig", "dm-env", "dm-tree", "optree", "safetensors", "filelock"),
    *("rich", "markdown-it-py", "mdurl", "pygments", "cloudpickle", "pytest", "pluggy"),
    *("iniconfig", "hypothesis", "sortedcontainers", "envpool", "envpool-assets<0.4"),
)
PLATFORM = (
    *("--python-version", "3.12", "--platform", "manylinux_2_28_x86_64"),
    *("--platform", "manylinux_2_24_x86_64", "--platform", "manylinux_2_17_x86_64"),
    *("--platform", "manylinux2014_x86_64"),
)
"""Of the usual machine; envpool's wheels have other tags than most."""
KEPT = (
    *("envpool/__init__.py", "envpool/registration.py", "envpool/py.typed", "envpool/python/"),
    *("envpool/atari/", "envpool_assets/__init__.py", "envpool_assets/atari/"),
)
"""Of envpool's two wheels; their `.dist-info` is kept as well."""
ENTRY = "import envpool.atari.registration  # noqa: F401\n"


def carried(folder: Path = FOLDER) -> Path:
    """Unpacks the wheels whose packages cannot be imported here.

    Programs that this process starts find them; the process itself adds the result to its path.

    Args:
        folder: with the wheels; nothing happens without it.

    Returns:
        Where they are.
    """
    target = folder / "unpacked"
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as content:
            tops = {name.partition("/")[0].removesuffix(".py") for name in content.namelist()}
            modules = [top for top in tops if top.isidentifier()]
            if not modules or any(find_spec(module) is None for module in modules):
                content.extractall(target)
    if target.is_dir():
        known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        os.environ["PYTHONPATH"] = os.pathsep.join([*known, str(target)])
        importlib.invalidate_caches()
    return target


def cut_down(wheel: Path) -> None:
    """Leaves of a wheel of envpool, or of its assets, what Atari needs.

    envpool has no other way to import one family of games alone: its `entry.py` names them all.
    """
    smaller = wheel.with_suffix(".part")
    with (
        zipfile.ZipFile(wheel) as whole,
        zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as part,
    ):
        for name in whole.namelist():
            if name == "envpool/entry.py":
                part.writestr(name, ENTRY)
            elif name.startswith(KEPT) or ".dist-info/" in name:
                part.writestr(name, whole.read(name))
    smaller.replace(wheel)


def main() -> int:
    """Fetches the wheels; returns the exit code."""
    FOLDER.mkdir(exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    where = ["--no-deps", "--only-binary=:all:", "--dest", str(FOLDER), *PLATFORM]
    versions = ["--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run([*pip, *where, *versions, *PACKAGES], check=False)
    if done.returncode:
        print("gpu_wheels.py: pip could not fetch the wheels; see above.", file=sys.stderr)
        return 1
    for wheel in FOLDER.glob("envpool*.whl"):
        cut_down(wheel)
    size = sum(wheel.stat().st_size for wheel in FOLDER.glob("*.whl")) / 2**20
    print(f"{len(list(FOLDER.glob('*.whl')))} wheels, {size:.1f} MiB, in {FOLDER.name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
