/** How a delivery went, in words that claim no more than is known. */
import type { Delivery, Notifier } from "../../net/outgoing.ts";
import { plain } from "../../protocol/reveal.ts";
import { ago } from "../../ui/words.ts";

export const WEBHOOK_EVENTS = [
  { value: "job.completed", label: "a job has ended" },
  { value: "approval.required", label: "an approval waits" },
  { value: "budget.exceeded", label: "a budget is spent" },
];
export const NOTICE_EVENTS = [
  { value: "approval", label: "an approval waits" },
  { value: "question", label: "the agent asks" },
  { value: "job", label: "a job has ended" },
];

/** `done`: what is known when the receiver said yes; a push service only takes what its browser fetches later. */
export function went(one: Delivery | undefined, now = Date.now(), done = "delivered"): string {
  if (one === undefined) return "nothing sent yet";
  const why = one.error === undefined ? "" : `: ${plain(one.error)}`;
  switch (one.state) {
    case "delivered":
      return `${done} ${ago(one.lastAttemptAt ?? one.createdAt, now)}`;
    case "dead":
      return `not delivered${why}`;
    case "withheld":
      return `not sent${why}`;
    case "pending":
      return one.attempts === 0 ? "on its way" : `failed ${one.attempts} ${one.attempts === 1 ? "time" : "times"}${why} Next try ${one.nextAttemptAt ? ago(one.nextAttemptAt, now) : "later"}.`;
  }
}

export const PUSHED = "handed to the browser’s push service";

export const troubled = (one: Delivery | undefined): boolean =>
  one !== undefined && (one.state === "dead" || (one.state === "pending" && one.attempts > 0));

export const where = (one: Notifier): string => (one.kind === "push" ? (one.current ? "this browser" : "a browser") : plain(one.to));

const EVENT_WORDS = new Map([...WEBHOOK_EVENTS, { value: "ping", label: "a test" }].map(({ value, label }) => [value, label]));
/** As the form says it; one that the page does not know by its code. */
export const eventWords = (type: string): string => EVENT_WORDS.get(type) ?? plain(type);
