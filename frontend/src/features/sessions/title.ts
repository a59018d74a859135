import { useEffect } from "react";
import { useLiveState } from "../../model/hooks.ts";
import type { Route } from "../../model/route.ts";
import type { Session } from "../../net/api.ts";
import { plain } from "../../protocol/reveal.ts";

/** The tab says how many answers are waited for, wherever the reader is. */
export function useTitle(sessions: readonly Session[], route: Route): void {
  const id = route.page === "session" ? route.id : "";
  const here = useLiveState((state) => {
    const live = state.lives.get(id);
    return live ? live.view.pendingApprovals.length + live.view.pendingQuestions.length : undefined;
  });
  const needs = sessions.reduce(
    (sum, one) => sum + (one.id === id && here !== undefined ? here : one.pendingApprovals + one.pendingQuestions),
    0,
  );
  const title = plain(sessions.find((one) => one.id === id)?.title ?? "");
  useEffect(() => {
    document.title = `${needs > 0 ? `(${needs}) ` : ""}${title ? `${title} · ` : ""}Pilothouse`;
  }, [needs, title]);
}
