"""A hub on this machine: as much of its interface as the client needs to push and to fetch small repositories."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeHub:
    """Keeps repositories in memory. `spoil` changes what is sent of a file, but not the checksum that is named."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: dict[str, str] = {}
        self.spoil: set[str] = set()
        self.asked: list[tuple[str, str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _send(self, code: int, content: bytes = b"{}", **headers: str) -> None:
                self.send_response(code)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def do_POST(self) -> None:
                content = self._body()
                hub.asked.append(("POST", self.path, self.headers.get("Authorization", "")))
                if self.headers.get("Authorization") != "Bearer hf_good":
                    self._send(401, b'{"error": "Invalid credentials"}')
                elif self.path == "/api/repos/create":
                    said = json.loads(content)
                    name = "/".join(filter(None, (said.get("organization"), said["name"])))
                    hub.repositories.setdefault(name, {})
                    hub.private.setdefault(name, bool(said.get("private") or said.get("visibility") == "private"))
                    self._send(200, json.dumps({"url": f"{hub.address}/{name}", "name": name}).encode())
                elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
                    names = [file["path"] for file in json.loads(content)["files"]]
                    files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                    self._send(200, json.dumps({"files": files}).encode())
                elif found := re.match(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
                    for line in map(json.loads, content.splitlines()):
                        if line["key"] == "file":
                            value = line["value"]
                            hub.repositories[found[1]][value["path"]] = base64.b64decode(value["content"])
                    hub.commits[found[1]] = commit = hashlib.sha1(content).hexdigest()
                    url = f"{hub.address}/{found[1]}/commit/{commit}"
                    said = {"commitUrl": url, "commitOid": commit, "pullRequestUrl": None, "success": True}
                    self._send(200, json.dumps(said).encode())
                elif self.path == "/api/validate-yaml":
                    self._send(200, b'{"errors": [], "warnings": []}')
                else:
                    self._send(404)

            def do_GET(self) -> None:
                hub.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
                if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
                    self._resolve(*found.groups())
                elif (found := re.match(r"/api/models/([^/]+/[^/?]+)", self.path)) and found[1] in hub.repositories:
                    said = {"id": found[1], "sha": hub.commits.get(found[1], "0" * 40), "siblings": []}
                    self._send(200, json.dumps(said).encode())
                else:
                    self._send(404, b'{"error": "Repository not found"}', X_Error_Code="RepoNotFound")

            do_HEAD = do_GET

            def _resolve(self, name: str, revision: str, file: str) -> None:
                files = hub.repositories.get(name)
                if files is None:
                    self._send(404, b"", X_Error_Code="RepoNotFound")
                elif revision not in ("main", hub.commits[name]):
                    self._send(404, b"", X_Error_Code="RevisionNotFound")
                elif file not in files:
                    self._send(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=hub.commits[name])
                else:
                    content = files[file]
                    if file.endswith(".safetensors"):
                        tag = hashlib.sha256(content).hexdigest()
                    else:
                        tag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                    sent = content[::-1] if file in hub.spoil else content
                    self._send(200, sent, ETag=f'"{tag}"', X_Repo_Commit=hub.commits[name])

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
