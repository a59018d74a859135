import { Ban, Check, Clock, Hourglass } from "lucide-react";
import { memo, useState } from "react";
import { plain } from "../../protocol/reveal.ts";
import type { ApprovalItem } from "../../protocol/view.ts";
import { asText, connectionOf, summaryOf } from "../../ui/input.ts";
import { Exact, ExactBox } from "../../ui/Exact.tsx";
import { UnstyledButton } from "@mantine/core";
import { who } from "../../ui/words.ts";
import { Pending } from "./Pending.tsx";

const HOW = {
  approved: { words: "Approved", icon: <Check size={16} color="var(--mantine-color-teal-6)" /> },
  denied: { words: "Denied", icon: <Ban size={16} color="var(--mantine-color-red-6)" /> },
  expired: { words: "Expired, not performed", icon: <Hourglass size={16} /> },
  cancelled: { words: "Cancelled", icon: <Clock size={16} /> },
};

export const ApprovalCard = memo(function ApprovalCard({ item }: { item: ApprovalItem }) {
  return item.resolved ? <Resolved item={item} resolved={item.resolved} /> : <Pending event={item.event} />;
});

function Resolved({ item, resolved }: { item: ApprovalItem; resolved: NonNullable<ApprovalItem["resolved"]> }) {
  const [open, setOpen] = useState(false);
  const { event } = item;
  const how = HOW[resolved.outcome];
  const connection = connectionOf(event.tool, event.input);
  const option = event.options.find((one) => one.id === resolved.optionId);
  return (
    <section className="card" data-state="done" data-testid="approval-card" data-approval={event.approvalId} data-outcome={resolved.outcome} aria-label={`Approval of ${event.tool}: ${how.words}`}>
      <UnstyledButton className="resolvedline" aria-expanded={open} onClick={() => setOpen(!open)}>
        {how.icon}
        <span>
          {how.words} by {who(resolved.by)}
          {resolved.updatedInput === undefined ? "" : ", edited"}
          {option?.scope && option.scope !== "once" ? ` · remembered for the ${option.scope}` : ""}
        </span>
        <span className="what ellipsis">
          {connection ? `Connect to ${plain(connection.host)}, port ${connection.port}` : `${plain(event.tool)} ${plain(summaryOf(event.input))}`}
        </span>
      </UnstyledButton>
      {resolved.message ? (
        <div className="cardbody" style={{ paddingTop: 0 }}>
          <span>
            “<Exact text={resolved.message} />”
          </span>
        </div>
      ) : null}
      {open ? (
        <div className="cardbody" style={{ paddingTop: 0 }}>
          <div className="field">
            <div className="label">Input asked for</div>
            <ExactBox text={asText(event.input)} limited label="Input asked for" />
          </div>
          {resolved.updatedInput === undefined ? null : (
            <div className="field">
              <div className="label">Input approved instead</div>
              <ExactBox text={asText(resolved.updatedInput)} limited label="Input approved instead" />
            </div>
          )}
        </div>
      ) : null}
    </section>
  );
}
