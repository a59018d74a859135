import { Alert, Badge, Button, Group, Kbd, Loader, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { EventOf, Option } from "../../protocol/events.ts";
import { plain } from "../../protocol/reveal.ts";
import { HttpError, sayError } from "../../net/http.ts";
import { DiffView } from "../../ui/DiffView.tsx";
import { Exact, ExactBox } from "../../ui/Exact.tsx";
import { asText, connectionOf, fieldsOf } from "../../ui/input.ts";
import { Markdown } from "../../ui/Markdown.tsx";
import { api } from "../../wiring.ts";
import { useRights } from "../sharing/rights.ts";
import { Countdown } from "./Countdown.tsx";
import { DenyForm, EditForm } from "./forms.tsx";
import { GRACE_MS, onCardKey, useArrival } from "./keys.ts";

/** A longer input is shown folded, and must be unfolded before it can be approved. */
const LINES_AT_ONCE = 40;
const CHARACTERS_AT_ONCE = 4_000;

type Asked = EventOf<"approval_required">;
interface Answer {
  approved: boolean;
  option?: Option | undefined;
  message?: string;
  updatedInput?: unknown;
}

const isLong = (text: string): boolean => text.length > CHARACTERS_AT_ONCE || text.split("\n").length > LINES_AT_ONCE;

/** What the log holds cut is asked for whole: nobody approves what they cannot see. */
function useWhole(event: Asked) {
  const cut = event.truncated !== undefined && Object.keys(event.truncated).length > 0;
  const full = useQuery({
    queryKey: ["approval", event.approvalId],
    queryFn: () => api.approval(event.approvalId),
    enabled: cut,
    staleTime: Infinity,
  });
  // An approval never changes under its id; if the hash did, what we have is not what was asked.
  const swapped = full.data !== undefined && full.data.inputHash !== event.inputHash;
  return { asked: full.data && !swapped ? full.data : event, ready: !cut || (full.data !== undefined && !swapped), error: full.error, swapped };
}

export function Pending({ event }: { event: Asked }) {
  const card = useRef<HTMLElement>(null);
  const since = useArrival(card);
  const { asked, ready, error, swapped } = useWhole(event);
  const [unfolded, unfold] = useState(false);
  const [form, setForm] = useState<"deny" | "edit">();
  const [state, setState] = useState<{ busy: boolean; fault?: string }>({ busy: false });

  const fields = useMemo(() => fieldsOf(asked.input), [asked.input]);
  const plan = asked.tool === "ExitPlanMode" ? fields.find((one) => one.name === "plan")?.text : undefined;
  const connection = connectionOf(asked.tool, asked.input);
  const long = plan === undefined && fields.some((one) => isLong(one.text));
  const armed = useArmed();
  const seen = armed && ready && (!long || unfolded);
  const yes = asked.options.filter((one) => one.outcome === "approved");
  const no = asked.options.filter((one) => one.outcome === "denied");
  // The plainest option is the one on the key: never one that is remembered.
  const once = yes.find((one) => one.scope === undefined || one.scope === "once");
  const others = yes.filter((one) => one !== once);
  const noOption = no.find((one) => one.scope === undefined || one.scope === "once");

  const answer = useCallback(
    (how: Answer) => {
      setState({ busy: true });
      const { approved, option, message, updatedInput } = how;
      const body = {
        approved,
        inputHash: event.inputHash,
        ...(option ? { optionId: option.id } : {}),
        ...(message ? { message } : {}),
        ...(updatedInput === undefined ? {} : { updatedInput }),
      };
      // The log says how it ended; until then the card stays shut.
      api.decide(event.approvalId, body).catch((failure: unknown) => setState({ busy: false, fault: sayFault(failure) }));
    },
    [event],
  );
  useSettled(state.busy, () => setState({ busy: false, fault: "The answer was sent; the log has not confirmed it yet." }));

  const rights = useRights();
  const may = rights.includes("approve");
  const canApprove = may && seen && !state.busy && (once !== undefined || asked.options.length === 0);
  const approve = (): void => {
    if (canApprove) answer({ approved: true, option: once });
  };
  const deny = (): void => {
    if (may && armed && !state.busy) answer({ approved: false, option: noOption });
  };
  const changes = asked.changes === undefined ? "" : asText(asked.changes);

  return (
    // The keys are a shortcut to the buttons inside, which do the same.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <section
      ref={card}
      className="card"
      data-state="pending"
      data-pending-card="true"
      data-testid="approval-card"
      data-approval={event.approvalId}
      data-outcome="pending"
      data-armed={armed}
      role="group"
      tabIndex={-1}
      aria-label={`Approval needed: ${connection ? `connect to ${plain(connection.host)}, port ${connection.port}` : plain(event.tool)}`}
      aria-keyshortcuts="A D"
      onKeyDown={(key) => onCardKey(key, since.current, { approve, deny, showAll: () => unfold(true) })}
    >
      <div className="cardhead">
        <h2>
          {connection ? (
            <>
              Connect to <Exact text={connection.host} />, port {connection.port}?
            </>
          ) : plan === undefined ? (
            <>Allow <Exact text={event.tool} />?</>
          ) : (
            "Accept this plan?"
          )}
        </h2>
        <Group gap={8} ml="auto">
          {event.expiresAt ? <Countdown at={event.expiresAt} /> : null}
          {event.secondApprover ? (
            <Badge color="grape" variant="light" data-testid="second-approver">
              second person
            </Badge>
          ) : null}
          <Badge color="orange" variant="light">
            {may ? "needs you" : "waits"}
          </Badge>
        </Group>
        {event.reason ? (
          <Text fz="sm" c="dimmed" w="100%">
            <Exact text={event.reason} />
          </Text>
        ) : null}
      </div>
      <div className="cardbody">
        {asked.diff?.map((diff, i) => <DiffView key={i} diff={diff} />)}
        {plan === undefined ? null : <Markdown text={plan} />}
        <div className="fields" data-testid="approval-input">
          {fields
            .filter((one) => connection === undefined && (plan === undefined || one.name !== "plan"))
            .map((field) => (
              <div key={field.name} className="field">
                <div className="label"><Exact text={field.name} /></div>
                <Fold text={field.text} label={field.name} open={unfolded || !isLong(field.text)} />
              </div>
            ))}
        </div>
        {long && !unfolded && ready ? (
          <Button size="xs" variant="default" onClick={() => unfold(true)} data-testid="show-all" rightSection={<Kbd size="xs" className="key">S</Kbd>}>
            Show all of the input to approve it
          </Button>
        ) : null}
        {changes ? (
          <div className="field">
            <div className="label">Changes</div>
            <ExactBox text={changes} limited label="Changes" />
          </div>
        ) : null}
        {!ready && !error && !swapped ? (
          <Group gap={8} fz="sm" role="status">
            <Loader size={14} /> Loading the whole input…
          </Group>
        ) : null}
        {error || swapped ? (
          <Alert color="red" variant="light" role="alert">
            {swapped ? "The server answered with another input than the one that was asked about. It cannot be approved here." : `The whole input could not be loaded: ${sayError(error)}`}
          </Alert>
        ) : null}
        {state.fault ? (
          <Alert color="orange" variant="light" role="alert">
            {state.fault}
          </Alert>
        ) : null}
        {form === "deny" ? <DenyForm busy={state.busy} onCancel={() => setForm(undefined)} onDeny={(message) => answer({ approved: false, option: noOption, message })} /> : null}
        {form === "edit" ? <EditForm input={asked.input} busy={state.busy} onCancel={() => setForm(undefined)} onApprove={(updatedInput) => answer({ approved: true, option: once, updatedInput })} /> : null}
        {event.secondApprover ? (
          <Text fz="sm">Somebody other than whoever asked for it has to approve this.</Text>
        ) : null}
        {may ? null : (
          <Text fz="sm" c="dimmed">
            You may look at it; somebody else answers.
          </Text>
        )}
        {may && form === undefined ? (
          <Group gap={8} className="answers">
            {once || asked.options.length === 0 ? (
              <Button size="sm" onClick={approve} disabled={!seen} loading={state.busy} rightSection={<Kbd size="xs" className="key">A</Kbd>} data-testid="approve">
                {once?.label ?? "Approve"}
              </Button>
            ) : null}
            {others.map((option) => (
              <Button key={option.id} size="sm" variant="light" disabled={!seen || state.busy} onClick={() => answer({ approved: true, option })} data-testid="approve-option" data-option={option.id} title={option.rule}>
                {option.label}
              </Button>
            ))}
            <Button size="sm" variant="default" onClick={deny} disabled={!armed || state.busy} rightSection={<Kbd size="xs" className="key">D</Kbd>} data-testid="deny">
              {noOption?.label ?? "Deny"}
            </Button>
            {no.filter((one) => one !== noOption).map((option) => (
              <Button key={option.id} size="sm" variant="default" disabled={!armed || state.busy} onClick={() => answer({ approved: false, option })} data-testid="deny-option" title={option.rule}>
                {option.label}
              </Button>
            ))}
            <Group gap={2} className="aside">
              <Button size="compact-sm" variant="subtle" color="gray" disabled={state.busy} onClick={() => setForm("deny")} data-testid="deny-with-message">
                Deny with a message…
              </Button>
              {rights.includes("run") && plan === undefined && connection === undefined && once ? (
                <Button size="compact-sm" variant="subtle" color="gray" disabled={!seen || state.busy} onClick={() => setForm("edit")} data-testid="edit-input">
                  Edit the input…
                </Button>
              ) : null}
            </Group>
          </Group>
        ) : null}
        {may && others.some((one) => one.rule) ? (
          <Text fz="xs" c="dimmed">
            Remembered as: {others.filter((one) => one.rule).map((one, i) => (
              <span key={one.id}>{i > 0 ? ", " : ""}<code className="exact"><Exact text={one.rule ?? ""} /></code></span>
            ))}
          </Text>
        ) : null}
      </div>
    </section>
  );
}

/** False until a reader can have seen the card: a click meant for what stood there before answers nothing. */
function useArmed(): boolean {
  const [armed, arm] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => arm(true), GRACE_MS);
    return () => clearTimeout(timer);
  }, []);
  return armed;
}

function Fold({ text, label, open }: { text: string; label: string; open: boolean }) {
  if (open) return <ExactBox text={text} label={label} />;
  const head = text.slice(0, CHARACTERS_AT_ONCE).split("\n").slice(0, 12).join("\n");
  return (
    <>
      <ExactBox text={head} label={label} />
      <Text fz="xs" c="dimmed">
        … {text.split("\n").length} lines, {text.length} characters in all
      </Text>
    </>
  );
}

function sayFault(failure: unknown): string {
  if (failure instanceof HttpError && failure.code === "already_resolved") {
    const { outcome, by } = failure.details;
    return typeof outcome === "string" && typeof by === "string" ? `Already ${outcome} by ${by}.` : "Already decided.";
  }
  if (failure instanceof HttpError && failure.code === "second_approver") return failure.message;
  return `The answer did not arrive: ${sayError(failure)}`;
}

/** An answer that the log does not confirm in this time is said, so that the card never hangs in silence. */
const CONFIRM_MS = 8_000;
function useSettled(busy: boolean, late: () => void): void {
  const call = useRef(late);
  useEffect(() => {
    call.current = late;
  });
  useEffect(() => {
    if (!busy) return;
    const timer = setTimeout(() => call.current(), CONFIRM_MS);
    return () => clearTimeout(timer);
  }, [busy]);
}
