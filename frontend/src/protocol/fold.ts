/**
 * One event into a session's view. Pure: the same log makes the same view, however it was cut into batches, so a reload
 * shows what the live page showed.
 */
import type { EventOf, LogEvent } from "./events.ts";
import type { Entry } from "./frames.ts";
import type { Item, SessionView, TextItem, ToolItem } from "./view.ts";

/** A view that may be changed while one batch is folded; its containers are fresh copies. */
interface Draft extends Omit<SessionView, "items" | "order"> {
  items: Map<string, Item>;
  order: string[];
}

export function fold(view: SessionView, entries: readonly Entry[]): SessionView {
  const draft: Draft = { ...view, items: new Map(view.items), order: [...view.order] };
  for (const entry of entries) step(draft, entry);
  return draft;
}

/** What the server said is gone: the cursor jumps, and the reader is told. */
export function foldGap(view: SessionView, from: number, to: number): SessionView {
  const draft: Draft = { ...view, items: new Map(view.items), order: [...view.order] };
  const span = from === to ? `event ${from}` : `events ${from} to ${to}`;
  put(draft, { is: "notice", key: `gap-${from}-${to}`, notice: "gap", text: `Part of the history is gone (${span}).` });
  delete draft.last;
  return { ...draft, head: Math.max(view.head, to), hole: false };
}

function step(draft: Draft, entry: Entry): void {
  const first = "from" in entry && entry.from ? entry.from : entry.seq;
  if (entry.seq <= draft.head) return;
  if (draft.hole || first > draft.head + 1) {
    draft.hole = true;
    return;
  }
  if (entry.type === "unreadable") {
    const words = `A record of the log could not be shown (${entry.named}).`;
    put(draft, { is: "notice", key: `s${entry.seq}`, notice: "unreadable", text: words });
  } else {
    apply(draft, entry);
  }
  draft.head = entry.seq;
}

function apply(draft: Draft, event: LogEvent): void {
  const key = `s${event.seq}`;
  switch (event.type) {
    case "session":
      draft.agent = event.agent;
      draft.isolation = event.isolation;
      if (event.title !== undefined) draft.title = event.title;
      if (event.source) draft.source = event.source;
      return;
    case "chat":
      put(draft, { is: "prompt", key, event });
      if (!event.steer) {
        delete draft.last;
        if (event.jobId) draft.queued = [...draft.queued, event.jobId];
      }
      return;
    case "job_started":
      draft.job = { id: event.jobId ?? "", by: event.by, started: event.at ?? "" };
      draft.queued = draft.queued.filter((id) => id !== event.jobId);
      draft.demo = event.demo;
      draft.mode = event.permissionMode;
      draft.model = event.model;
      delete draft.usage;
      return;
    case "session_update":
      if (event.mode) draft.mode = event.mode;
      if (event.model) draft.model = event.model;
      if (event.commands) draft.commands = event.commands;
      if (event.context) draft.context = event.context;
      return;
    case "stream":
      return addText(draft, "text", event);
    case "thinking":
      return addText(draft, "thinking", event);
    case "stream_reset":
      return dropMessage(draft, event.messageId);
    case "retry": {
      const wait = (event.delayMs / 1000).toFixed(event.delayMs < 10_000 ? 1 : 0);
      const words = `The model call is being repeated in ${wait} s (${event.attempt} of ${event.of}): ${event.reason}`;
      return put(draft, { is: "notice", key, notice: "retry", text: words });
    }
    case "plan":
      return setPlan(draft, event, key);
    case "tool_use":
      return addTool(draft, event);
    case "tool_output":
      return changeTool(draft, event.toolId, (tool) => ({
        ...tool,
        output: tool.output + event.content,
        truncated: { ...tool.truncated, ...event.truncated },
      }));
    case "tool_result":
      return changeTool(draft, event.toolId, (tool) => ({
        ...tool,
        result: event.result,
        status: event.isError ? "error" : "done",
        truncated: { ...tool.truncated, ...event.truncated },
        ...(event.diff ? { diff: event.diff } : {}),
      }));
    case "approval_required":
      put(draft, { is: "approval", key: `a:${event.approvalId}`, event });
      draft.pendingApprovals = [...draft.pendingApprovals, event.approvalId];
      return changeTool(draft, event.toolId, (tool) => (tool.status === "running" ? { ...tool, status: "waiting" } : tool));
    case "approval_resolved":
      return resolve(draft, event);
    case "question":
      put(draft, { is: "question", key: `q:${event.questionId}`, event });
      draft.pendingQuestions = [...draft.pendingQuestions, event.questionId];
      return;
    case "question_answered": {
      const item = draft.items.get(`q:${event.questionId}`);
      draft.pendingQuestions = draft.pendingQuestions.filter((id) => id !== event.questionId);
      if (item?.is === "question" && !item.answered) draft.items.set(item.key, { ...item, answered: event });
      return;
    }
    case "artifact":
      return addArtifact(draft, event, key);
    case "usage":
      draft.usage = event;
      return;
    case "custom":
      return put(draft, { is: "custom", key, event });
    case "error":
      return put(draft, { is: "error", key, event });
    case "complete":
      return end(draft, event, key);
  }
}

function put(draft: Draft, item: Item): void {
  if (!draft.items.has(item.key)) draft.order.push(item.key);
  draft.items.set(item.key, item);
}

/** Text goes on in the agent's last row if that is the same message's; a tool call in between begins a new row. */
function addText(draft: Draft, is: TextItem["is"], event: EventOf<"stream"> | EventOf<"thinking">): void {
  const part = { seq: event.seq, text: event.content };
  if (event.from && event.from <= draft.head) dropParts(draft, is, event.messageId, event.from);
  const last = draft.last === undefined ? undefined : draft.items.get(draft.last);
  if (last?.is === is && last.messageId === event.messageId) {
    const parts = [...last.parts, part];
    draft.items.set(last.key, { ...last, text: last.text + event.content, parts });
    return;
  }
  close(draft);
  const key = `s${event.seq}`;
  put(draft, { is, key, messageId: event.messageId, text: event.content, parts: [part], open: true });
  draft.last = key;
}

/** A folded row that begins behind the cursor repeats what is already on the screen: that part makes room for it. */
function dropParts(draft: Draft, is: TextItem["is"], messageId: string, from: number): void {
  for (const item of [...draft.items.values()]) {
    if (item.is !== is || item.messageId !== messageId) continue;
    const parts = item.parts.filter((part) => part.seq < from);
    if (parts.length < item.parts.length)
      draft.items.set(item.key, { ...item, parts, text: parts.map((part) => part.text).join("") });
  }
}

function dropMessage(draft: Draft, messageId: string): void {
  const gone = new Set<string>();
  for (const item of draft.items.values())
    if ((item.is === "text" || item.is === "thinking") && item.messageId === messageId) gone.add(item.key);
  for (const key of gone) draft.items.delete(key);
  draft.order = draft.order.filter((key) => !gone.has(key));
  if (draft.last !== undefined && gone.has(draft.last)) delete draft.last;
}

function close(draft: Draft): void {
  const last = draft.last === undefined ? undefined : draft.items.get(draft.last);
  if (last && (last.is === "text" || last.is === "thinking") && last.open)
    draft.items.set(last.key, { ...last, open: false });
}

function setPlan(draft: Draft, event: EventOf<"plan">, key: string): void {
  const { entries } = event;
  // One plan per job, at the place where it stood first: the list changes, the conversation does not jump.
  const stable = event.jobId ? `plan:${event.jobId}` : key;
  put(draft, { is: "plan", key: stable, entries });
}

function addArtifact(draft: Draft, event: EventOf<"artifact">, key: string): void {
  const stable = event.jobId ? `artifacts:${event.jobId}` : key;
  const known = draft.items.get(stable);
  const files = known?.is === "artifacts" ? known.files : [];
  put(draft, { is: "artifacts", key: stable, files: [...files, event], ...(event.jobId ? { job: event.jobId } : {}) });
}

function addTool(draft: Draft, event: EventOf<"tool_use">): void {
  const key = `t:${event.toolId}`;
  const parent = event.parentToolId ? draft.items.get(`t:${event.parentToolId}`) : undefined;
  const nested = parent?.is === "tool" && parent.key !== key;
  const tool: ToolItem = {
    is: "tool",
    key,
    toolId: event.toolId,
    tool: event.tool,
    kind: event.kind,
    input: event.input,
    output: "",
    status: "running",
    refused: false,
    truncated: event.truncated ?? {},
    children: [],
    ...(event.title ? { title: event.title } : {}),
    ...(event.locations?.[0] ? { path: event.locations[0].path } : {}),
    ...(nested ? { parent: parent.key } : {}),
    ...(event.jobId ? { jobId: event.jobId } : {}),
  };
  if (draft.items.has(key)) return;
  if (nested) {
    draft.items.set(key, tool);
    draft.items.set(parent.key, { ...parent, children: [...parent.children, key] });
    return;
  }
  close(draft);
  put(draft, tool);
  draft.last = key;
}

function changeTool(draft: Draft, toolId: string, change: (tool: ToolItem) => ToolItem): void {
  const tool = draft.items.get(`t:${toolId}`);
  if (tool?.is === "tool") draft.items.set(tool.key, change(tool));
}

function resolve(draft: Draft, event: EventOf<"approval_resolved">): void {
  draft.pendingApprovals = draft.pendingApprovals.filter((id) => id !== event.approvalId);
  const item = draft.items.get(`a:${event.approvalId}`);
  if (item?.is !== "approval" || item.resolved) return;
  draft.items.set(item.key, { ...item, resolved: event });
  const refused = event.outcome !== "approved";
  changeTool(draft, item.event.toolId, (tool) => ({
    ...tool,
    refused,
    status: tool.status === "waiting" ? "running" : tool.status,
  }));
}

function end(draft: Draft, event: EventOf<"complete">, key: string): void {
  close(draft);
  delete draft.last;
  for (const item of draft.items.values())
    if (item.is === "tool" && item.jobId === event.jobId && (item.status === "running" || item.status === "waiting"))
      draft.items.set(item.key, { ...item, status: "stopped" });
  if (draft.job?.id === (event.jobId ?? "")) delete draft.job;
  draft.queued = draft.queued.filter((id) => id !== event.jobId);
  put(draft, { is: "end", key, event });
}
