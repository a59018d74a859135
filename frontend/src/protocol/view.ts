/** What a person sees of a session: a pure fold over its log. The shapes; `fold.ts` has the steps. */
import type { Diff, EventOf, Isolation, PlanEntry, ToolKind, Truncated } from "./events.ts";

export interface PromptItem {
  is: "prompt";
  key: string;
  event: EventOf<"chat">;
}

/** A run of text or thinking. `parts` keep their `seq`, so that a folded row can take the place of what it holds. */
export interface TextItem {
  is: "text" | "thinking";
  key: string;
  messageId: string;
  text: string;
  parts: readonly { seq: number; text: string }[];
  open: boolean;
}

export interface ToolItem {
  is: "tool";
  key: string;
  toolId: string;
  tool: string;
  title?: string;
  kind: ToolKind;
  input: unknown;
  path?: string;
  output: string;
  result?: string;
  diff?: Diff[];
  status: "running" | "waiting" | "done" | "error" | "stopped";
  /** A person, or the clock, said no. */
  refused: boolean;
  truncated: Truncated;
  children: readonly string[];
  parent?: string;
  jobId?: string;
}

export interface ApprovalItem {
  is: "approval";
  key: string;
  event: EventOf<"approval_required">;
  resolved?: EventOf<"approval_resolved">;
}

export interface QuestionItem {
  is: "question";
  key: string;
  event: EventOf<"question">;
  answered?: EventOf<"question_answered">;
}

export interface NoticeItem {
  is: "notice";
  key: string;
  notice: "gap" | "unreadable" | "retry" | "reset";
  text: string;
}

export type PlainItem =
  | { is: "plan"; key: string; entries: PlanEntry[] }
  /** What one job made, in one place. */
  | { is: "artifacts"; key: string; job?: string; files: readonly EventOf<"artifact">[] }
  | { is: "custom"; key: string; event: EventOf<"custom"> }
  | { is: "error"; key: string; event: EventOf<"error"> }
  | { is: "end"; key: string; event: EventOf<"complete"> };

export type Item = PromptItem | TextItem | ToolItem | ApprovalItem | QuestionItem | NoticeItem | PlainItem;

export interface SessionView {
  epoch: string;
  /** The last `seq` that was folded in: the cursor. */
  head: number;
  /** Set when the log skipped a number without saying so: the socket asks again from `head`. */
  hole: boolean;
  title?: string;
  agent?: string;
  isolation?: Isolation;
  source?: { git?: string; dir?: string };
  mode?: string;
  model?: string;
  commands: readonly string[];
  context?: { used: number; max: number };
  demo: boolean;
  /** The job that is running now. */
  job?: { id: string; by: string; started: string };
  /** Jobs that were prompted and did not start yet. */
  queued: readonly string[];
  usage?: EventOf<"usage">;
  /** Top-level rows in order; nested tools hang on their parent. */
  order: readonly string[];
  items: ReadonlyMap<string, Item>;
  /** The row that the agent wrote last on the top level: text goes on there, or begins a row. */
  last?: string;
  pendingApprovals: readonly string[];
  pendingQuestions: readonly string[];
}

export const emptyView = (epoch = ""): SessionView => ({
  epoch,
  head: 0,
  hole: false,
  commands: [],
  demo: false,
  queued: [],
  order: [],
  items: new Map(),
  pendingApprovals: [],
  pendingQuestions: [],
});
