"""What an index is to the real pip and uv in these tests: small wheels, their lock, a course."""

import base64
import hashlib
import zipfile

PROJECT = """
[build-system]
requires = ["builder"]
build-backend = "backend"
backend-path = ["."]

[project]
name = "small-course"
version = "1"
dependencies = ["alpha>=1", "gadget[fast]"]
[project.optional-dependencies]
dev = ["checker"]
"""
# Builds the small course as setuptools builds the real one, with nothing but Python.
BACKEND = """
import zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    name, info = "small_course-1-py3-none-any.whl", "small_course-1.dist-info"
    needs = ["alpha>=1", "gadget[fast]", "checker; extra == 'dev'"]
    lines = ["Metadata-Version: 2.1", "Name: small-course", "Version: 1", "Provides-Extra: dev"]
    lines += [f"Requires-Dist: {each}" for each in needs]
    with zipfile.ZipFile(Path(folder, name), "w") as archive:
        archive.writestr("small_course.pth", str(Path.cwd()))
        archive.writestr(f"{info}/METADATA", "\\n".join(lines) + "\\n")
        tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        archive.writestr(f"{info}/WHEEL", tags)
        files = ["small_course.pth", *(f"{info}/{n}" for n in ("METADATA", "WHEEL", "RECORD"))]
        archive.writestr(f"{info}/RECORD", "".join(f"{each},,\\n" for each in files))
    return name
"""


def wheel(folder, name, version, requires=(), python=None):
    """A real wheel with one module, written by hand."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    needs += f"Requires-Python: {python}\n" if python else ""
    files = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{path},sha256={digest.decode()},{len(text.encode())}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return path


def lock(shelf, *entries):
    """A lock as the course has one: entries such as ``"alpha==1.5"``, the hashes of a shelf."""
    text = "# made by a test\n"
    for entry in entries:
        name, _, version = entry.partition(";")[0].strip().partition("==")
        text += entry
        for path in sorted(shelf.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
            text += f" \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        text += "\n"
    return text
