/**
 * The events of a session's log, as the page reads them. The vocabulary is the server's (`core/events.py`); the shared
 * `protocol/vectors/*.json` hold both sides to it.
 */
import { amount, count, flag, json, list, maybe, oneOf, record, shape, table, text } from "./shape.ts";
import type { Check } from "./shape.ts";

const cut = shape({ size: count, url: text });
const envelope = {
  sessionId: maybe(text),
  jobId: maybe(text),
  seq: count,
  at: maybe(text),
  truncated: maybe(table(cut)),
};

const diff = shape({ path: text, kind: oneOf("add", "edit", "delete", "rename"), patch: text });
const option = shape({
  id: text,
  label: text,
  outcome: oneOf("approved", "denied"),
  scope: maybe(oneOf("once", "session", "project")),
  rule: maybe(text),
  mode: maybe(text),
});
const choice = shape({ label: text, description: maybe(text) });
const question = shape({ question: text, header: maybe(text), multi: maybe(flag), options: maybe(list(choice)) });
const planEntry = shape({
  content: text,
  status: oneOf("pending", "in_progress", "completed"),
  priority: maybe(oneOf("high", "medium", "low")),
});
const source = shape({ git: maybe(text), dir: maybe(text) });
const attachment = shape({ name: text, mediaType: maybe(text), size: maybe(count) });
const isolation = oneOf("vm", "gvisor", "namespaces", "reduced", "none");
const toolKind = oneOf("read", "edit", "delete", "move", "search", "execute", "think", "fetch", "other");

/** Adds the envelope and the tag, which `decodeEvent` has already looked at. */
function event<const T extends string, F extends Record<string, Check<unknown>>>(type: T, fields: F) {
  return shape({ type: oneOf(type), ...envelope, ...fields });
}

const decoders = {
  session: event("session", { agent: text, isolation, title: maybe(text), source: maybe(source) }),
  chat: event("chat", {
    message: text,
    by: text,
    attachments: maybe(list(attachment)),
    clientMessageId: maybe(text),
    steer: maybe(flag),
  }),
  job_started: event("job_started", {
    agent: text,
    agentVersion: text,
    model: text,
    demo: flag,
    permissionMode: text,
    by: text,
  }),
  session_update: event("session_update", {
    claudeSessionId: maybe(text),
    mode: maybe(text),
    model: maybe(text),
    commands: maybe(list(text)),
    context: maybe(shape({ used: count, max: count })),
  }),
  thinking: event("thinking", { content: text, messageId: text, from: maybe(count) }),
  stream: event("stream", { content: text, messageId: text, from: maybe(count) }),
  stream_reset: event("stream_reset", { messageId: text }),
  retry: event("retry", { attempt: count, of: count, delayMs: count, reason: text }),
  plan: event("plan", { entries: list(planEntry) }),
  tool_use: event("tool_use", {
    tool: text,
    toolId: text,
    input: json,
    kind: toolKind,
    title: maybe(text),
    locations: maybe(list(shape({ path: text, line: maybe(amount) }))),
    parentToolId: maybe(text),
  }),
  tool_output: event("tool_output", { toolId: text, content: text }),
  tool_result: event("tool_result", { toolId: text, result: text, isError: flag, diff: maybe(list(diff)) }),
  approval_required: event("approval_required", {
    approvalId: text,
    toolId: text,
    tool: text,
    input: json,
    inputHash: text,
    options: list(option),
    reason: text,
    changes: maybe(json),
    diff: maybe(list(diff)),
    expiresAt: maybe(text),
    secondApprover: maybe(flag),
  }),
  approval_resolved: event("approval_resolved", {
    approvalId: text,
    outcome: oneOf("approved", "denied", "expired", "cancelled"),
    by: text,
    optionId: maybe(text),
    message: maybe(text),
    updatedInput: maybe(json),
  }),
  question: event("question", { questionId: text, questions: list(question), expiresAt: maybe(text) }),
  question_answered: event("question_answered", {
    questionId: text,
    answers: table(text),
    by: text,
    outcome: oneOf("answered", "expired", "cancelled"),
  }),
  artifact: event("artifact", {
    artifactId: text,
    path: text,
    size: count,
    sha256: text,
    url: text,
    toolId: maybe(text),
  }),
  usage: event("usage", {
    inputTokens: count,
    outputTokens: count,
    cacheReadTokens: count,
    cacheWriteTokens: count,
    totalCost: amount,
    measured: oneOf("proxy", "agent"),
  }),
  custom: event("custom", { name: text, data: json, by: text }),
  complete: event("complete", {
    outcome: oneOf("succeeded", "failed", "interrupted", "budget_exceeded"),
    result: text,
    totalCost: amount,
    durationMs: count,
    numTurns: count,
    reason: maybe(text),
  }),
  error: event("error", { code: text, message: text }),
};

type Decoders = typeof decoders;
export type EventType = keyof Decoders;
export type EventOf<T extends EventType> = ReturnType<Decoders[T]>;
export type LogEvent = { [T in EventType]: EventOf<T> }[EventType];
export type Diff = ReturnType<typeof diff>;
export type Option = ReturnType<typeof option>;
export type Question = ReturnType<typeof question>;
export type PlanEntry = ReturnType<typeof planEntry>;
export type Isolation = ReturnType<typeof isolation>;
export type ToolKind = ReturnType<typeof toolKind>;
export type Truncated = Record<string, ReturnType<typeof cut>>;

export const EVENT_TYPES = Object.keys(decoders) as EventType[];

export const isEventType = (type: unknown): type is EventType =>
  typeof type === "string" && Object.hasOwn(decoders, type);

/** One event of the log. Throws `BadShape` with the field's name. */
export function decodeEvent(value: unknown): LogEvent {
  const { type } = record(value, "event");
  if (!isEventType(type)) return oneOf(...EVENT_TYPES)(type, "event.type") as never;
  return (decoders[type] as Check<LogEvent>)(value, type);
}
