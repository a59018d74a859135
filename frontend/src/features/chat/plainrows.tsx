/** Rows without a life of their own. */
import { Alert } from "@mantine/core";
import { Ban, Circle, CircleAlert, CircleCheck, CircleDot, CircleX, Gauge, Megaphone, RotateCw, Wallet } from "lucide-react";
import type { EventOf, PlanEntry } from "../../protocol/events.ts";
import { plain } from "../../protocol/reveal.ts";
import type { NoticeItem } from "../../protocol/view.ts";
import { asText } from "../../ui/input.ts";
import { ExactBox } from "../../ui/Exact.tsx";
import { cost, duration, plural, sayReason, who } from "../../ui/words.ts";
import { reachedWords } from "../limits/words.ts";

const PLAN_ICONS = { pending: Circle, in_progress: CircleDot, completed: CircleCheck };
const PLAN_WORDS = { pending: "to do", in_progress: "in progress", completed: "done" };

export function Plan({ entries }: { entries: PlanEntry[] }) {
  const done = entries.filter((one) => one.status === "completed").length;
  return (
    <section className="plan" data-testid="plan" aria-label="Plan">
      <div className="label">
        Plan · {done} of {entries.length}
      </div>
      <ol>
        {entries.map((one, i) => {
          const Icon = PLAN_ICONS[one.status];
          return (
            <li key={i} data-status={one.status}>
              <Icon size={15} aria-label={PLAN_WORDS[one.status]} />
              <span>{one.content}</span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

export function Notice({ item }: { item: NoticeItem }) {
  return (
    <div className="noticeline" data-testid={item.notice} data-notice={item.notice}>
      {item.notice === "retry" ? <RotateCw size={14} /> : <CircleAlert size={14} />}
      <span>{item.text}</span>
    </div>
  );
}

export function Custom({ event }: { event: EventOf<"custom"> }) {
  return (
    <div className="field" data-testid="custom">
      <div className="noticeline">
        <Megaphone size={14} /> {plain(event.name)} · {who(event.by)}
      </div>
      <ExactBox text={asText(event.data)} limited label={event.name} />
    </div>
  );
}

export function ErrorRow({ event }: { event: EventOf<"error"> }) {
  const reached = reachedWords(event.code);
  if (reached)
    return (
      <Alert color="orange" variant="light" className="limit" icon={<Gauge />} title={reached} data-testid="error-event" data-code={event.code}>
        {event.message}
      </Alert>
    );
  const files = event.code.startsWith("artifacts_");
  return (
    <Alert color={files ? "orange" : "red"} variant="light" {...(files ? { className: "limit" } : {})} icon={<CircleAlert />} data-testid="error-event" data-code={event.code}>
      {event.message}
    </Alert>
  );
}

const ENDS = {
  succeeded: { icon: <CircleCheck size={15} color="var(--mantine-color-teal-6)" />, words: "Done" },
  failed: { icon: <CircleX size={15} color="var(--mantine-color-red-6)" />, words: "Failed" },
  interrupted: { icon: <Ban size={15} />, words: "Interrupted" },
  budget_exceeded: { icon: <Wallet size={15} color="var(--mantine-color-orange-6)" />, words: "Stopped: the budget is used up" },
};

export function End({ event }: { event: EventOf<"complete"> }) {
  const end = ENDS[event.outcome];
  const why = event.outcome === "succeeded" ? undefined : sayReason(event.reason, event.result);
  return (
    <>
      {why && event.outcome !== "interrupted" ? (
        <Alert color={event.outcome === "failed" ? "red" : "orange"} variant="light" mb={8} data-testid="job-reason">
          {why}
        </Alert>
      ) : null}
      <div className="endline" data-testid="job-end" data-outcome={event.outcome}>
        {end.icon}
        <span>{end.words}</span>
        <span>{duration(event.durationMs)}</span>
        <span>{plural(event.numTurns, "turn")}</span>
        <span>{cost(event.totalCost)}</span>
      </div>
    </>
  );
}
