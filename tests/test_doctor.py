"""The doctor: what it finds, what it finds missing, and its exit status."""

import importlib.metadata
import re
from pathlib import Path

import pytest

from laq_model import doctor as doctor_module
from laq_model.cli import main
from laq_model.doctor import DIGESTS, EXTRAS, REQUIRED, DoctorConfig, broken_files, doctor
from laq_model.errors import RunError
from laq_model.published_weights import cached_files, embedded_file

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "laq" / "laq_model" / "embedded"
QUICK = DoctorConfig(trial=False)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty Hub cache."""
    from huggingface_hub import constants  # noqa: PLC0415

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def put(cache: Path, repository: str, name: str, content: bytes) -> Path:
    """A file as the Hub's client keeps it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    file = folder / "snapshots" / "a1b2" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("a1b2")
    return file


def test_the_tiny_preset_is_tried(capsys, cache):
    doctor(DoctorConfig())
    out = capsys.readouterr().out
    assert re.search(r"a pair of \S+\.webm became \d+ tokens in [\d.]+ s", out)
    assert "the tiny preset can run here" in out
    assert "no VGGT" in out
    assert "`hf download facebook/VGGT-1B model.safetensors`; or give --vggt_weights FILE" in out


def test_its_packages_are_those_of_the_project():
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block
    wanted = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', block.group(1)))
    assert {package: least for package, (_, least) in REQUIRED.items()} == wanted
    extras = re.search(r"^\[project.optional-dependencies\](.*?)^\[", text, re.MULTILINE | re.DOTALL)
    assert extras
    named = set(re.findall(r"^(\w+) = ", extras.group(1), re.MULTILINE))
    assert named - set(EXTRAS) == {"test", "dev", "docs"}
    assert set(EXTRAS) <= named


def test_every_embedded_file_is_what_was_shipped():
    advice = (
        "an embedded file was changed on purpose? Then, in laq/laq_model/embedded: find . -type f "
        "! -name '*.json' ! -name '.*' ! -name SHA256SUMS | sed 's,^./,,' | LC_ALL=C sort "
        "| xargs sha256sum > SHA256SUMS"
    )
    assert broken_files(EMBEDDED) == [], advice
    listed = {line.split("  ")[1] for line in (EMBEDDED / DIGESTS).read_text().splitlines()}
    there = {
        file.relative_to(EMBEDDED).as_posix()
        for file in EMBEDDED.rglob("*")
        if file.is_file() and file.suffix != ".json" and file.name[0] != "." and file.name != DIGESTS
    }
    assert listed == there, advice


def test_a_damaged_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    # sha256 of "abc" is the first test vector of FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / DIGESTS).write_text(f"{digest}  a.bin\n{digest}  b.bin\n")
    assert broken_files(tmp_path) == ["b.bin is missing"]
    (tmp_path / "a.bin").write_bytes(b"abd")
    assert broken_files(tmp_path) == ["a.bin is damaged", "b.bin is missing"]


def test_damaged_networks_are_one_clear_line_and_status_1(monkeypatch, capsys, cache):
    monkeypatch.setattr(doctor_module, "broken_files", lambda folder: ["vggt_tiny.safetensors is damaged"])
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: the tiny preset cannot run here: vggt_tiny.safetensors is damaged; "
        "install concerto-laq again\n"
    )


@pytest.mark.parametrize(
    ("version", "promised"),
    [
        (None, r"einops: missing; pip install 'einops>=0\.8'"),
        ("0.7.9", r"einops: 0\.7\.9 is too old; pip install 'einops>=0\.8'"),
    ],
)
def test_a_package_that_is_missing_or_old_is_named_with_its_cure(monkeypatch, version, promised):
    real = importlib.metadata.version

    def other(package: str) -> str:
        if package != "einops":
            return real(package)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return version

    monkeypatch.setattr(doctor_module.importlib.metadata, "version", other)
    with pytest.raises(RunError, match=f"cannot run here: {promised}"):
        doctor(QUICK)


def test_a_package_that_cannot_be_imported_is_no_find(monkeypatch):
    monkeypatch.setitem(REQUIRED, "einops", ("einops_is_broken", "0.8"))
    with pytest.raises(
        RunError, match=r"einops: \S+ cannot be imported \(No module named 'einops_is_broken'\)"
    ):
        doctor(QUICK)


def test_a_missing_extra_is_no_fault_but_has_its_command(monkeypatch, capsys, cache):
    monkeypatch.setitem(EXTRAS, "ray", (("a-package-that-nobody-has",), "clusters"))
    doctor(QUICK)
    assert "not installed; pip install 'concerto-laq[ray]'  (clusters)" in capsys.readouterr().out


def test_published_weights_in_the_cache_are_listed(capsys, cache):
    file = put(cache, "Pointcept/Concerto", "concerto_base.pth", bytes(2_500_000))
    doctor(QUICK)
    out = capsys.readouterr().out
    assert re.search(rf"concerto_base +2\.5 MB, {re.escape(str(file))}", out)
    assert "no VGGT" in out
    assert "no Concerto" not in out


def test_shards_count_only_when_all_are_there(cache):
    index = put(
        cache,
        "facebook/VGGT-1B",
        "model.safetensors.index.json",
        b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
    )
    names = ["model.safetensors", "model.safetensors.index.json"]
    one = put(cache, "facebook/VGGT-1B", "model-1.safetensors", b"1")
    assert cached_files("facebook/VGGT-1B", names) == []
    two = put(cache, "facebook/VGGT-1B", "model-2.safetensors", b"2")
    assert cached_files("facebook/VGGT-1B", names) == [index, one, two]


def test_the_embedded_folder_is_found():
    assert embedded_file(DIGESTS).parent == EMBEDDED
