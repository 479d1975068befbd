"""Tools in a chat record of Nova 2: declarations, calls and results, and whether they belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from nova_dpo_sdk.datasets._facts import canonical

if TYPE_CHECKING:
    from nova_dpo_sdk.datasets._exact import Walk


@dataclass
class _Call:
    tool_id: str
    turn: int
    path: str
    answered: bool = False


class Tools:
    """Checks the tools of one record while a walk goes through it.

    The walk is passed in, not kept: the two must not form a ring, because the collector rests during a scan.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._calls: dict[str, _Call] = {}
        self._called: list[tuple[str, str]] = []
        self._turn = 0

    def begin(self, turn: int) -> None:
        """What follows stands in this turn, counted from 0."""
        self._turn = turn

    def declared(self, walk: Walk, config: Any) -> None:
        """Check `toolConfig` and remember the names in it."""
        path = "$.toolConfig"
        if not walk.object(config, path, ("tools",)) or "tools" not in config:
            return
        for index, tool in enumerate(walk.array(config["tools"], f"{path}.tools")):
            self._specification(walk, tool, f"{path}.tools[{index}]")

    def named(self, config: Any) -> None:
        """Remember the names in a `toolConfig` that does not belong there and is not checked."""
        for tool in _listed(_inner(config, "tools")):
            name = _inner(_inner(tool, "toolSpec"), "name")
            if isinstance(name, str):
                self._names.add(name)

    def _specification(self, walk: Walk, tool: Any, path: str) -> None:
        if not walk.object(tool, path, ("toolSpec",)) or "toolSpec" not in tool:
            return
        spec, path = tool["toolSpec"], f"{path}.toolSpec"
        if not walk.object(spec, path, ("name", "inputSchema"), ("description",)):
            return
        name = walk.string(spec, "name", path)
        if name is not None and name in self._names:
            walk.say("tool-name-repeated", f"{path}.name", f"A tool {name[:60]!r} is declared before.")
        self._names.add(name or "")
        walk.string(spec, "description", path)
        schema = spec.get("inputSchema")
        if "inputSchema" in spec and walk.object(schema, f"{path}.inputSchema", ("json",)) and "json" in schema:
            self._schema(walk, schema["json"], f"{path}.inputSchema.json")

    def _schema(self, walk: Walk, schema: Any, path: str) -> None:
        if not walk.an_object(schema, path):
            return
        if "type" not in schema:
            walk.say("missing-key", path, "The key type is missing.")

    def use(self, walk: Walk, value: Any, path: str, texts: list[str]) -> None:
        """Check a `toolUse` and remember its id."""
        texts.append(canonical(value))
        if not walk.object(value, path, ("toolUseId", "name", "input")):
            return
        if "input" in value:
            walk.an_object(value["input"], f"{path}.input")
        name = walk.string(value, "name", path)
        if name is not None:
            self._called.append((name, f"{path}.name"))
        tool_id = walk.string(value, "toolUseId", path)
        if tool_id is None:
            return
        if tool_id in self._calls:
            walk.say("tool-use-repeated", f"{path}.toolUseId", f"The id {tool_id[:60]!r} is used before.")
            return
        self._calls[tool_id] = _Call(tool_id, self._turn, path)

    def result(self, walk: Walk, value: Any, path: str, texts: list[str]) -> None:
        """Check a `toolResult` and match it with its call."""
        if not walk.object(value, path, ("toolUseId", "content")):
            return
        texts.append(canonical(value.get("toolUseId")))
        self._match(walk, walk.string(value, "toolUseId", path), path)
        if "content" not in value:
            return
        for index, item in enumerate(walk.array(value["content"], f"{path}.content")):
            self._result_item(walk, item, f"{path}.content[{index}]", texts)

    def _match(self, walk: Walk, tool_id: str | None, path: str) -> None:
        if tool_id is None:
            return
        call = self._calls.get(tool_id)
        if call is None or call.turn != self._turn - 1 or call.answered:
            message = f"No open toolUse of the turn before has the id {tool_id[:60]!r}."
            walk.say("tool-result-unasked", f"{path}.toolUseId", message)
            return
        call.answered = True

    def _result_item(self, walk: Walk, item: Any, path: str, texts: list[str]) -> None:
        if not walk.object(item, path, (), ("text", "json")):
            return
        if len(item.keys() & {"text", "json"}) != 1:
            walk.say("content-item", path, "The item has not exactly one of text and json.")
        text = walk.string(item, "text", path)
        if text is not None:
            walk.text(text, f"{path}.text", texts)
        if "json" in item:
            texts.append(canonical(item["json"]))

    def finish(self, walk: Walk, turns: int) -> None:
        """Say what only the whole record of so many turns tells."""
        for name, path in self._called:
            if name not in self._names:
                walk.say("tool-undeclared", path, f"The tool {name[:60]!r} is not declared in toolConfig.")
        for call in self._calls.values():
            if call.answered:
                continue
            code = "tool-use-last" if call.turn == turns - 1 else "tool-use-unanswered"
            walk.say(code, call.path, f"The call {call.tool_id[:60]!r} has no result.")


def _inner(value: Any, key: str) -> Any:
    return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType] - JSON
