"""Changing several files as one: the previous bytes of all are on disk before the first is touched,
so that a later failure, or the next run after a kill, puts them back."""

import base64
import json
import os

from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.paths import Roots

RECORD_BYTES_MAX = 64 * 1024 * 1024


class Swap:
    """The files one environment's change touches; its record lies in `state_dir`."""

    def __init__(self, roots, state_dir, environment):
        self.roots = roots
        self.state_dir = state_dir
        self.name = f"{environment}.swap.json"
        self.files = self._load()

    def _load(self):
        content = Roots([self.state_dir]).read(os.path.join(self.state_dir, self.name), RECORD_BYTES_MAX)
        if content is None:
            return []
        try:
            return json.loads(content.data)
        except ValueError as error:
            raise Failure("FILE_FAILED", f"{self.state_dir}/{self.name} cannot be read: {error}") from None

    def watch(self, paths):
        """Makes the present content of these files durable, so that they may be changed."""
        known = {file["path"] for file in self.files}
        new = [path for path in paths if path not in known]
        for path in new:
            content = self.roots.read(path)
            saved = {"path": path, "content": None}
            if content is not None:
                saved["content"] = base64.b64encode(content.data).decode()
                saved.update(mode=content.mode, owner=list(content.owner))
            self.files.append(saved)
        if new:
            os.makedirs(self.state_dir, 0o700, exist_ok=True)
            record = json.dumps(self.files).encode()
            Roots([self.state_dir]).write(os.path.join(self.state_dir, self.name), record, 0o600)

    def put(self, path, data, mode, owner=None):
        """Replaces a watched file, or removes it (data is None); it keeps its owner."""
        before = next((file for file in self.files if file["path"] == path), None)
        if before is None:
            raise Failure("INTERNAL_ERROR", f"{path} was to be changed unwatched")
        if data is None:
            self.roots.remove(path)
            return
        if before["content"] is not None:
            owner = tuple(before["owner"])
        self.roots.write(path, data, mode, owner)

    def undo(self):
        """Puts every watched file back; says which differed. The record stays."""
        changed = []
        for before in self.files:
            path = before["path"]
            if before["content"] is None:
                try:
                    if self.roots.remove(path):
                        changed.append(path)
                except Failure as failure:
                    if failure.code != "PATH_MISSING":
                        raise
                continue
            data = base64.b64decode(before["content"])
            now = self.roots.read(path)
            if now is None or now.data != data or now.mode != before["mode"]:
                self.roots.write(path, data, before["mode"], tuple(before["owner"]))
                changed.append(path)
        return changed

    def forget(self):
        """The change is committed, or undone."""
        if self.files:
            Roots([self.state_dir]).remove(os.path.join(self.state_dir, self.name))
            self.files = []
