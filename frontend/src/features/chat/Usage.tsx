import { Menu } from "@mantine/core";
import type { Live } from "../../model/feed.ts";
import type { Session } from "../../net/api.ts";
import { plain } from "../../protocol/reveal.ts";
import { cost, tokens } from "../../ui/words.ts";

/** What the session has used, at the top of its menu. */
export function Usage({ live, session }: { live: Live | undefined; session: Session }) {
  const { usage, context, model, demo } = live?.view ?? {};
  const rows: [string, string][] = [["Session", cost(session.totalCost)]];
  if (usage) {
    rows.push(["Last job", `${cost(usage.totalCost)}${usage.measured === "agent" ? " by the agent's count" : ""}`]);
    rows.push(["Tokens in", `${tokens(usage.inputTokens)} new, ${tokens(usage.cacheReadTokens)} from cache, ${tokens(usage.cacheWriteTokens)} cached`]);
    rows.push(["Tokens out", tokens(usage.outputTokens)]);
  }
  if (context && context.max > 0) rows.push(["Context", `${tokens(context.used)} of ${tokens(context.max)}`]);
  const name = model ?? session.model;
  if (name) rows.push(["Model", demo ? "demo model" : plain(name)]);
  return (
    <>
      <Menu.Label>Usage</Menu.Label>
      <div className="usage" data-testid="session-usage">
        {rows.map(([what, words]) => (
          <div key={what}>
            <span>{what}</span>
            <span>{words}</span>
          </div>
        ))}
      </div>
      <Menu.Divider />
    </>
  );
}
