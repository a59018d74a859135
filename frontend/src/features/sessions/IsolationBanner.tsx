import { UnstyledButton } from "@mantine/core";
import { useState } from "react";
import type { Me } from "../../net/api.ts";

/** A longer sentence would push a phone's page away: two lines of it, the rest on request. */
const LONG = 180;
const WORDS: Readonly<Record<string, string>> = { none: "No isolation.", reduced: "Reduced isolation." };

/** Stands over everything while sessions are not fully isolated. The sentence is the probe's own. */
export function IsolationBanner({ server }: { server: Me["server"] }) {
  const [all, showAll] = useState(false);
  const words = WORDS[server.isolation];
  if (words === undefined) return null;
  const { lead, rest } = parts(words, server.isolationSummary);
  const long = lead.length + rest.length > LONG;
  return (
    <div className="banner" data-tone="warn" role="note" aria-label="Isolation" data-testid="isolation-banner" data-isolation={server.isolation}>
      <div className={long && !all ? "clamped" : undefined}>
        <strong>{lead}</strong> {rest}
      </div>
      {long ? (
        <UnstyledButton className="bannerbtn" aria-expanded={all} onClick={() => showAll(!all)} data-testid="isolation-more">
          {all ? "Show less" : "Show all"}
        </UnstyledButton>
      ) : null}
    </div>
  );
}

/** The summary's own beginning is the strong part if it speaks of isolation; else ours stands before it. */
export function parts(words: string, summary: string): { lead: string; rest: string } {
  const cut = summary.indexOf(": ") + 1;
  const lead = summary.slice(0, cut);
  return /isolat/i.test(lead) ? { lead, rest: summary.slice(cut + 1) } : { lead: words, rest: summary };
}
