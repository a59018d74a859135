import { Badge } from "@mantine/core";
import { ShieldAlert } from "lucide-react";
import type { Isolation } from "../../protocol/events.ts";

const WEAK: Partial<Record<Isolation, string>> = { none: "no isolation", reduced: "reduced isolation" };

/** Said of a session that is not fully isolated, above its log. */
export function IsolationBadge({ isolation }: { isolation: Isolation | undefined }) {
  const words = isolation && WEAK[isolation];
  if (!words) return null;
  return (
    <Badge color="orange" variant="light" size="sm" flex="none" title={words} leftSection={<ShieldAlert size={11} aria-hidden="true" />} data-testid="isolation-label" data-isolation={isolation}>
      {words.split(" ")[0]}
      <span className="roomy"> isolation</span>
    </Badge>
  );
}

/** The same in a line of the list. */
export function IsolationMark({ isolation }: { isolation: Isolation }) {
  const words = WEAK[isolation];
  return words ? <ShieldAlert size={12} className="weakmark" role="img" aria-label={words} data-testid="isolation-mark" /> : null;
}
