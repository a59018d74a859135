/** What the scripted agent does with a prompt. Words in the prompt choose; by default it shows a bit of everything. */
import { setTimeout as sleep } from "node:timers/promises";
import { randomUUID } from "node:crypto";
import type { Json, MockSession, World } from "./world.ts";

const PACE = Number(process.env.MOCK_PACE ?? 25);
const OPTIONS = [
  { id: "once", label: "Approve", outcome: "approved", scope: "once" },
  { id: "session", label: "Approve for this session", outcome: "approved", scope: "session", rule: "Bash(python3 primes.py)" },
  { id: "deny", label: "Deny", outcome: "denied" },
];
const PATCH = `--- a/primes.py
+++ b/primes.py
@@ -1,6 +1,9 @@
 """The first primes."""
 
-def primes(n):
-    return [2, 3, 5, 7][:n]
+def primes(count: int) -> list[int]:
+    found: list[int] = []
+    n = 2
+    while len(found) < count:
+        if all(n % p for p in found):
+            found.append(n)
+        n += 1
+    return found
 
 print(primes(20))
`;
const TEXT = `I will write a small program and run it.

### What it does

1. It keeps the primes **found so far**.
2. It tries each number against them.

\`\`\`python
def primes(count: int) -> list[int]:
    found: list[int] = []
    n = 2
    while len(found) < count:
        if all(n % p for p in found):
            found.append(n)
        n += 1
    return found
\`\`\`

| n | time |
|---|---:|
| 20 | 0.1 ms |
| 1000 | 9 ms |

See [the sieve](https://en.wikipedia.org/wiki/Sieve_of_Eratosthenes) for a faster way; <img src=x onerror=alert(1)> and [this](javascript:alert(1)) stay text.
`;

class Interrupted extends Error {}

export async function runJob(world: World, session: MockSession, job: string, prompt: string): Promise<void> {
  if (session.job) return void session.queue.push({ job, prompt });
  session.job = job;
  session.interrupted = false;
  session.stopped = false;
  const began = Date.now();
  const say = (event: Json & { type: string }): void => {
    if (session.interrupted) throw new Interrupted();
    world.append(session, { jobId: job, ...event });
  };
  let outcome = "succeeded";
  let reason: string | undefined;
  say({ type: "job_started", agent: session.agent, agentVersion: "2.1.0", model: "demo-1", demo: true, permissionMode: session.mode, by: "you" });
  try {
    await (choose(prompt))({ world, session, job, say });
  } catch (error) {
    if (error instanceof Interrupted) outcome = "interrupted";
    else [outcome, reason] = ["failed", error instanceof Error ? error.message : "unknown"];
  }
  session.interrupted = false;
  session.totalCost += 0.0123;
  world.append(session, { jobId: job, type: "usage", inputTokens: 1834, outputTokens: 612, cacheReadTokens: 12_000, cacheWriteTokens: 900, totalCost: 0.0123, measured: "proxy" });
  world.append(session, { jobId: job, type: "complete", outcome, result: reason ?? "Done.", totalCost: 0.0123, durationMs: Date.now() - began, numTurns: 3, ...(reason ? { reason } : {}) });
  session.job = undefined;
  const next = session.queue.shift();
  if (next) await runJob(world, session, next.job, next.prompt);
}

interface Scene {
  world: World;
  session: MockSession;
  job: string;
  say: (event: Json & { type: string }) => void;
}
type Act = (scene: Scene) => Promise<void>;

function choose(prompt: string): Act {
  if (/\bflood\b/.test(prompt)) return flood;
  if (/\bask\b/.test(prompt)) return question;
  if (/\bplan\b/.test(prompt)) return plan;
  if (/\bhuge\b/.test(prompt)) return huge;
  if (/\bfail\b/.test(prompt)) return fail;
  if (/\bmemory\b/.test(prompt)) return greedy;
  if (/\bhello\b/.test(prompt)) return async (scene) => stream(scene, "Hello! This is the scripted stand-in.");
  return program;
}

async function stream({ say }: Scene, text: string): Promise<void> {
  const messageId = randomUUID();
  for (const piece of text.match(/[\s\S]{1,14}/g) ?? []) {
    say({ type: "stream", messageId, content: piece });
    await sleep(PACE);
  }
}

async function tool(scene: Scene, use: Json, result: Json, wait = 300): Promise<string> {
  const toolId = String(use.toolId ?? randomUUID());
  scene.say({ type: "tool_use", toolId, ...use });
  await sleep(wait);
  scene.say({ type: "tool_result", toolId, isError: false, ...result });
  return toolId;
}

const program: Act = async (scene) => {
  const { world, session, job, say } = scene;
  const thought = randomUUID();
  for (const content of ["The person wants a program. ", "I will keep it small and run it to be sure."]) say({ type: "thinking", messageId: thought, content });
  await stream(scene, TEXT);
  const entries = ["Write primes.py", "Run it", "Explain"].map((content, i) => ({ content, status: i === 0 ? "in_progress" : "pending", priority: "medium" }));
  say({ type: "plan", entries });
  await tool(scene, { tool: "Edit", kind: "edit", input: { file_path: "/workspace/primes.py", old_string: "def primes(n):", new_string: "def primes(count: int)" }, locations: [{ path: "primes.py" }] }, { result: "Edited.", diff: [{ path: "primes.py", kind: "edit", patch: PATCH }] });
  const agent = randomUUID();
  say({ type: "tool_use", tool: "Task", toolId: agent, kind: "think", title: "Look for tests", input: { description: "Look for tests", prompt: "Find tests" } });
  await tool(scene, { tool: "Grep", kind: "search", input: { pattern: "def test_" }, parentToolId: agent }, { result: "tests/test_app.py:3:def test_primes():" });
  await tool(scene, { tool: "Read", kind: "read", input: { file_path: "/workspace/missing.py" }, parentToolId: agent }, { result: "No such file: /workspace/missing.py", isError: true });
  say({ type: "tool_result", toolId: agent, result: "One test.", isError: false });
  const run = randomUUID();
  const input = { command: "python3 primes.py && echo 'done\u202e'", description: "Run the program" };
  say({ type: "tool_use", tool: "Bash", toolId: run, kind: "execute", input });
  const decision = await world.ask(session, { type: "approval_required", jobId: job, toolId: run, tool: "Bash", input, options: OPTIONS, reason: "Commands are asked about in this mode." });
  if (decision.approved === true) {
    say({ type: "tool_output", toolId: run, content: "[2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, " });
    await sleep(400);
    say({ type: "tool_result", toolId: run, result: "[2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71]\ndone", isError: false });
  } else {
    say({ type: "tool_result", toolId: run, result: String(decision.message ?? "The user rejected this action."), isError: true });
  }
  say({ type: "plan", entries: entries.map((one) => ({ ...one, status: "completed" })) });
  say({ type: "retry", attempt: 1, of: 5, delayMs: 1200, reason: "overloaded" });
  const cut = randomUUID();
  say({ type: "stream", messageId: cut, content: "This answer is cut and goes aw" });
  await sleep(300);
  say({ type: "stream_reset", messageId: cut });
  await stream(scene, decision.approved === true ? "It ran, and printed the first **20** primes." : "I did not run it, as you asked.");
  say({ type: "artifact", artifactId: randomUUID(), path: "primes.py", size: 431, sha256: "0".repeat(64), url: "/api/artifacts/1" });
  say({ type: "session_update", context: { used: 24_000, max: 200_000 } });
};

const question: Act = async (scene) => {
  const { world, session, job } = scene;
  await stream(scene, "I need to know two things first.");
  const questions = [
    { question: "Which language?", header: "Language", multi: false, options: [{ label: "Python", description: "Batteries included" }, { label: "Go", description: "One binary" }] },
    { question: "Which extras?", header: "Extras", multi: true, options: [{ label: "Tests" }, { label: "Types" }, { label: "Docs" }] },
  ];
  const { answers } = await world.ask(session, { type: "question", jobId: job, questions });
  await stream(scene, `Thank you: ${Object.values(answers as Record<string, string>).join("; ")}.`);
};

const plan: Act = async (scene) => {
  const { world, session, job, say } = scene;
  const toolId = randomUUID();
  const input = { plan: "## A to-do list\n\n1. **Storage**: one JSON file\n2. **Commands**: `add`, `list`, `done`\n3. Tests with `pytest`\n\nNothing leaves the workspace." };
  say({ type: "tool_use", tool: "ExitPlanMode", toolId, kind: "think", input });
  const options = [{ id: "edits", label: "Accept, edits go ahead", outcome: "approved", mode: "acceptEdits" }, { id: "ask", label: "Accept, ask for each", outcome: "approved", mode: "manual", scope: "session" }, { id: "no", label: "Keep planning", outcome: "denied" }];
  const decision = await world.ask(session, { type: "approval_required", jobId: job, toolId, tool: "ExitPlanMode", input, options, reason: "The plan is ready." });
  say({ type: "tool_result", toolId, result: decision.approved === true ? "Accepted." : "Keep planning.", isError: decision.approved !== true });
  await stream(scene, decision.approved === true ? "Then I begin." : "I will think again.");
};

const huge: Act = async (scene) => {
  const { world, session, job, say } = scene;
  const toolId = randomUUID();
  const input = { file_path: "/workspace/data.txt", content: Array.from({ length: 6000 }, (_, i) => `line ${i} of a long file`).join("\n") };
  say({ type: "tool_use", tool: "Write", toolId, kind: "edit", input: { file_path: input.file_path } });
  await world.ask(session, { type: "approval_required", jobId: job, toolId, tool: "Write", input, options: OPTIONS, reason: "A new file." });
  say({ type: "tool_result", toolId, result: "Written.", isError: false });
};

const fail: Act = async (scene) => {
  scene.say({ type: "error", code: "model_unauthorized", message: "The model refused the credential (401)." });
  await sleep(50);
  throw new Error("The model could not be reached: its credential was refused.");
};

const greedy: Act = async (scene) => {
  scene.say({ type: "error", code: "limit_memory", message: "The session reached its memory limit of 4 GiB: the kernel ended a process in it." });
  await stream(scene, "I will try it with less.");
};

/** 5,000 events as fast as they go. */
const flood: Act = async (scene) => {
  for (let i = 0; i < 1000; i++) {
    const messageId = randomUUID();
    for (const content of ["Step ", `**${i}**`, " of many.\n"]) scene.say({ type: "stream", messageId, content });
    const toolId = randomUUID();
    scene.say({ type: "tool_use", tool: "Bash", toolId, kind: "execute", input: { command: `echo ${i}` } });
    scene.say({ type: "tool_result", toolId, result: String(i), isError: false });
    if (i % 100 === 0) await sleep(1);
  }
};
