import type { Live } from "../../model/feed.ts";
import { plural } from "../../ui/words.ts";

/** What a screen reader hears: the turns of the story, not every token. */
export function useAnnounced(live: Live | undefined): string {
  const view = live?.view;
  if (!view || !live.caughtUp) return "";
  if (view.pendingApprovals.length > 0) return `${plural(view.pendingApprovals.length, "approval")} waiting for you`;
  if (view.pendingQuestions.length > 0) return "The agent has a question";
  if (view.job) return "The agent is working";
  const last = view.items.get(view.order.at(-1) ?? "");
  return last?.is === "end" ? `The job ended: ${last.event.outcome.replace("_", " ")}` : "";
}
