import { Button, Checkbox, Group, SegmentedControl, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Notifier, NotifierWish, Sessions } from "../../net/outgoing.ts";
import { plain } from "../../protocol/reveal.ts";
import { Exact } from "../../ui/Exact.tsx";
import { Fault } from "../../ui/Fault.tsx";
import { api } from "../../wiring.ts";
import { Part } from "../settings/Settings.tsx";
import { WHY, pushState, subscribe, unsubscribe } from "./push.ts";
import { NOTICE_EVENTS, PUSHED, troubled, went, where } from "./words.ts";

const KEY = ["notifiers"];
/** An attempt that has just begun is looked at again soon. */
const SOON_MS = 2_000;

/** How the reader is told of what happens while they are not looking. */
export function Notifications() {
  const queries = useQueryClient();
  const notifiers = useQuery({
    queryKey: KEY,
    queryFn: ({ signal }) => api.notifiers(signal),
    refetchInterval: ({ state }) => (state.data?.items.some((one) => one.last?.state === "pending") ? SOON_MS : false),
  });
  const push = useQuery({ queryKey: ["push"], queryFn: pushState, staleTime: 0 });
  const refresh = (): Promise<void> => Promise.all([queries.invalidateQueries({ queryKey: KEY }), queries.invalidateQueries({ queryKey: ["push"] })]).then(() => undefined);
  const items = notifiers.data?.items ?? [];
  const here = push.data === "on" ? items.find((one) => one.current) : undefined;
  return (
    <Part title="Notifications">
      <Text fz="sm" c="dimmed">
        You are told when a session needs you and you are not looking. A notification names the tool and the session, never what it is about.
      </Text>
      <Fault error={notifiers.error} again={() => void notifiers.refetch()} />
      {push.data === "denied" || push.data === "unsupported" || push.data === "insecure" ? (
        <Text fz="sm" data-testid="push-why">
          {WHY[push.data]}
        </Text>
      ) : here === undefined ? (
        <ThisBrowser onDone={refresh} />
      ) : null}
      {items.length > 0 ? (
        <ul className="entries" aria-label="Notifications">
          {items.map((one) => (
            <Row key={one.id} one={one} here={one.id === here?.id} onDone={refresh} />
          ))}
        </ul>
      ) : null}
      <Slack onDone={refresh} />
    </Part>
  );
}

function ThisBrowser({ onDone }: { onDone: () => Promise<void> }) {
  const subscribing = useMutation({
    mutationFn: async () => api.makeNotifier(await subscribe((await api.pushKey()).publicKey)),
    onSettled: onDone,
  });
  return (
    <>
      <Button size="xs" w="fit-content" loading={subscribing.isPending} onClick={() => subscribing.mutate()} data-testid="push-on">
        Notify me in this browser
      </Button>
      <Fault error={subscribing.error} />
    </>
  );
}

function Row({ one, here, onDone }: { one: Notifier; here: boolean; onDone: () => Promise<void> }) {
  const changing = useMutation({ mutationFn: (change: { events?: string[]; sessions?: Sessions; enabled?: boolean }) => api.changeNotifier(one.id, change), onSettled: onDone });
  const testing = useMutation({ mutationFn: () => api.testNotifier(one.id), onSettled: onDone });
  const removing = useMutation({
    mutationFn: async () => {
      await api.removeNotifier(one.id);
      if (here) await unsubscribe();
    },
    onSettled: onDone,
  });
  const name = plain(one.name);
  // What was wished stands until the server has answered.
  const { events = one.events, sessions = one.sessions } = changing.isPending ? changing.variables : one;
  const busy = changing.isPending || removing.isPending;
  return (
    <li data-testid="notifier-row" data-state={one.last?.state ?? ""} className="top">
      <div className="what">
        <Text fz="sm" fw={500} span>
          <Exact text={one.name} />
        </Text>
        <Text fz="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          {where(one)}
        </Text>
        <Text fz="xs" c={one.enabled && !troubled(one.last) ? "dimmed" : "red"} role="status" data-testid="notifier-went">
          {one.enabled ? `Last: ${went(one.last, undefined, one.kind === "push" ? PUSHED : undefined)}` : `Off: ${plain(one.disabledBecause ?? "")}.`}
        </Text>
        <Checkbox.Group value={events} onChange={(events) => changing.mutate({ events })} aria-label={`What ${name} tells`}>
          <Group gap="sm" mt={4}>
            {NOTICE_EVENTS.map(({ value, label }) => (
              <Checkbox key={value} size="xs" value={value} label={label} disabled={busy || (one.events.length === 1 && one.events[0] === value)} />
            ))}
          </Group>
        </Checkbox.Group>
        <SegmentedControl
          size="xs"
          mt={4}
          aria-label={`Sessions that ${name} tells of`}
          value={sessions}
          disabled={busy}
          onChange={(value) => changing.mutate({ sessions: value === "all" ? "all" : "own" })}
          data={[
            { value: "own", label: "My sessions" },
            { value: "all", label: "All I may see" },
          ]}
        />
      </div>
      <Group gap={4}>
        {one.enabled ? (
          <Button size="compact-xs" variant="default" loading={testing.isPending} onClick={() => testing.mutate()} aria-label={`Test ${name}`} data-testid="notifier-test">
            Test
          </Button>
        ) : (
          <Button size="compact-xs" variant="default" loading={changing.isPending} onClick={() => changing.mutate({ enabled: true })} aria-label={`Turn on ${name}`}>
            Turn on
          </Button>
        )}
        <Button size="compact-xs" variant="default" c="red" loading={removing.isPending} onClick={() => removing.mutate()} aria-label={`Remove ${name}`} data-testid="notifier-remove">
          Remove
        </Button>
      </Group>
      <Fault error={changing.error ?? testing.error ?? removing.error} />
    </li>
  );
}

function Slack({ onDone }: { onDone: () => Promise<void> }) {
  const [url, setUrl] = useState("");
  const making = useMutation({
    mutationFn: () => api.makeNotifier({ kind: "slack", url: url.trim() } satisfies NotifierWish),
    onSuccess: () => (setUrl(""), onDone()),
  });
  return (
    <form onSubmit={(event) => (event.preventDefault(), making.mutate())} aria-label="Notify by Slack">
      <Group gap="sm" align="flex-end">
        <TextInput size="xs" flex={1} miw={200} label="Slack-compatible webhook" placeholder="https://hooks.slack.com/services/…" autoComplete="off" value={url} maxLength={2048} onChange={(event) => setUrl(event.currentTarget.value)} data-testid="slack-url" />
        <Button type="submit" size="xs" variant="default" disabled={url.trim() === ""} loading={making.isPending} data-testid="slack-add">
          Add
        </Button>
      </Group>
      <Fault error={making.error} />
    </form>
  );
}
