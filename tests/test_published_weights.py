"""Fetching weights: a small Hub on this machine answers as the real one does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save

from laq_model.errors import WeightsError
from laq_model.published_weights import (
    CONCERTO_MODELS,
    EMBEDDED,
    find_concerto_weights,
    find_vggt_weights,
    licence_of,
)
from laq_model.weights import read_weights

COMMIT = "a" * 40


class SmallHub:
    """Files by repository and name, and how each repository answers."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        repository, _, name = path.lstrip("/").partition("/resolve/main/")
        name = name.partition("?")[0]
        if repository in self.refusals:
            status, code = self.refusals[repository]
            return status, {"X-Error-Code": code, "X-Error-Message": code}, b""
        content = self.files.get((repository, name))
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        etag = hashlib.sha256(content).hexdigest()
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, content


@contextlib.contextmanager
def serving(hub: SmallHub) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.reply(with_content=False)

        def do_GET(self) -> None:
            self.reply(with_content=True)

        def reply(self, *, with_content: bool) -> None:
            hub.asked.append(f"{self.command} {self.path.rpartition('/')[2]}")
            status, headers, content = hub.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_client_to(monkeypatch, endpoint: str, cache: Path) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(cache), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[SmallHub]:
    hub = SmallHub()
    with serving(hub) as endpoint:
        point_client_to(monkeypatch, endpoint, tmp_path / "cache")
        yield hub


def tensors(value: float = 1.0) -> bytes:
    return save({"layer.weight": torch.full((2,), value)})


def test_a_file_is_fetched_once_and_then_found_without_asking(hub):
    hub.files["facebook/VGGT-1B", "model.safetensors"] = tensors()
    path = find_vggt_weights("facebook/VGGT-1B")
    assert read_weights(path).tensors["layer.weight"].tolist() == [1, 1]
    hub.asked.clear()
    assert find_vggt_weights("facebook/VGGT-1B") == path
    assert hub.asked == []


def test_shards_come_with_their_index(hub):
    index = {"weight_map": {"layer.weight": "one.safetensors", "other": "two.safetensors"}}
    hub.files["someone/VGGT", "model.safetensors.index.json"] = json.dumps(index).encode()
    hub.files["someone/VGGT", "one.safetensors"] = tensors()
    hub.files["someone/VGGT", "two.safetensors"] = save({"other": torch.full((1,), 5.0)})
    file = read_weights(find_vggt_weights("someone/VGGT"))
    assert {key: value.tolist() for key, value in file.tensors.items()} == {
        "layer.weight": [1, 1],
        "other": [5],
    }


def test_names_of_files_on_the_hub(hub):
    hub.files["facebook/VGGT-1B-Commercial", "vggt_1B_commercial.pt"] = b"c"
    hub.files["someone/plain", "model.pt"] = b"p"
    hub.files["someone/plain", "tuned/best.safetensors"] = b"t"
    for model in CONCERTO_MODELS:
        hub.files["Pointcept/Concerto", f"{model}.pth"] = model.encode()
    hub.files["facebook/sonata", "sonata.pth"] = b"s"
    assert find_vggt_weights("facebook/VGGT-1B-Commercial").read_bytes() == b"c"
    assert find_vggt_weights("someone/plain").read_bytes() == b"p"
    assert find_vggt_weights("someone/plain/tuned/best.safetensors").read_bytes() == b"t"
    for model in CONCERTO_MODELS:
        assert find_concerto_weights(model).read_bytes() == model.encode()
    assert find_concerto_weights("facebook/sonata/sonata.pth").read_bytes() == b"s"


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            (403, "GatedRepo"),
            r"is gated; accept its terms on https://huggingface.co/facebook/VGGT-1B-Commercial, then log in "
            r"with `hf auth login` or set HF_TOKEN\. Three ways: fetch it where there is network access "
            r"\(`hf download facebook/VGGT-1B-Commercial vggt_1B_commercial.pt`\), pass --vggt_weights FILE, "
            r"or use the embedded networks with --preset tiny$",
        ),
        ((401, "RepoNotFound"), "the Hub has no facebook/VGGT-1B-Commercial, or it is private"),
        ((401, ""), "the Hub has no facebook/VGGT-1B-Commercial, or it is private"),
        ((500, ""), "the Hub does not answer"),
    ],
)
def test_refusals_of_the_hub_are_one_clear_line(hub, refusal, message):
    hub.refusals["facebook/VGGT-1B-Commercial"] = refusal
    with pytest.raises(WeightsError, match=message) as caught:
        find_vggt_weights("facebook/VGGT-1B-Commercial")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("vggt_1B_commercial.pt of facebook/VGGT-1B-Commercial is not on this")


def test_a_repository_without_any_known_file_is_named_with_all_of_them(hub):
    with pytest.raises(
        WeightsError,
        match=r"^model.safetensors or model.safetensors.index.json or model.pt of someone/empty "
        r".* the repository has no such file\. Three ways",
    ):
        find_vggt_weights("someone/empty")


def test_without_network_the_line_comes_after_one_question(monkeypatch, tmp_path):
    with serving(SmallHub()) as endpoint:
        pass  # the port is free again: connections are refused
    point_client_to(monkeypatch, endpoint, tmp_path)
    with pytest.raises(
        WeightsError, match=r"concerto_base.pth of Pointcept/Concerto .* the Hub does not answer"
    ):
        find_concerto_weights("concerto_base")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE forbids to ask the Hub"):
        find_concerto_weights("concerto_base")


def test_files_of_the_user_s_and_names_that_are_none(tmp_path):
    file = tmp_path / "own.safetensors"
    file.write_bytes(tensors())
    assert find_vggt_weights("facebook/VGGT-1B", file=str(file)) == file
    assert find_concerto_weights("concerto_base", file=str(file)) == file
    for find, arguments, message in [
        (
            find_vggt_weights,
            {"model": "x", "file": "gone.pt"},
            "--vggt_weights gone.pt: there is no such file",
        ),
        (
            find_concerto_weights,
            {"model": "x", "file": str(tmp_path)},
            "that is a folder; name the file in it",
        ),
        (find_vggt_weights, {"model": "VGGT-1B"}, "no VGGT model is called 'VGGT-1B'"),
        (find_concerto_weights, {"model": "concerto_huge"}, "'concerto_huge'; choose from concerto_tiny, "),
    ]:
        with pytest.raises(WeightsError, match=message):
            find(**arguments)


def test_the_licence_of_what_is_loaded():
    assert licence_of("facebook/VGGT-1B") == (
        "VGGT-1B weights: non-commercial use only (facebook/VGGT-1B on the Hub)"
    )
    assert "VGGT License, commercial use allowed, gated" in licence_of("facebook/VGGT-1B-Commercial")
    assert all("CC-BY-NC-4.0" in licence_of(model, network="concerto") for model in CONCERTO_MODELS)
    assert licence_of(EMBEDDED, network="concerto").startswith("embedded concerto network: Apache-2.0")
    assert licence_of("a/b") == "weights of a/b: see the licence on its page of the Hub"
    assert licence_of("x", file="d/own.pt") == (
        "weights of own.pt: not stated in the file; VGGT-1B is for non-commercial use only, "
        "VGGT-1B-Commercial under the VGGT License"
    )
    assert licence_of("x", network="concerto", file="own.safetensors", stated="MIT") == (
        "weights of own.safetensors: MIT"
    )
