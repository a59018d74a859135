import { Badge, Button, Group, Text } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import type { Delivery, Webhook } from "../../net/outgoing.ts";
import { plain } from "../../protocol/reveal.ts";
import { Confirm } from "../../ui/Confirm.tsx";
import { Exact } from "../../ui/Exact.tsx";
import { Fault } from "../../ui/Fault.tsx";
import { ago } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { eventWords, troubled, went } from "./words.ts";

interface Props {
  one: Webhook;
  onDone: () => Promise<void>;
  onSecret: (secret: string) => void;
}

export function WebhookRow({ one, onDone, onSecret }: Props) {
  const [asked, ask] = useState<"remove" | "rotate">();
  const [open, setOpen] = useState(false);
  const list = useId();
  const pinging = useMutation({ mutationFn: () => api.pingWebhook(one.id), onSettled: onDone });
  const changing = useMutation({ mutationFn: (enabled: boolean) => api.changeWebhook(one.id, { enabled }), onSettled: onDone });
  const name = plain(one.name);
  const act = { size: "compact-xs", variant: "default" } as const;
  return (
    <li data-testid="webhook-row" data-state={one.last?.state ?? ""} className="top">
      <div className="what" style={{ minWidth: 200 }}>
        <Text fz="sm" fw={500} span>
          <Exact text={one.name} />
        </Text>
        <Text fz="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
          <Exact text={one.url} />
        </Text>
        <Group gap={4}>
          {one.events.map((event) => (
            <Badge key={event} size="xs" variant="light" color="gray" tt="none" title={event}>
              {eventWords(event)}
            </Badge>
          ))}
        </Group>
        <Text fz="xs" c={one.enabled && !troubled(one.last) ? "dimmed" : "red"} role="status" data-testid="webhook-went">
          {one.enabled ? `Last: ${went(one.last)}` : `Disabled: ${plain(one.disabledBecause ?? "")}.`}
          {one.dead > 0 ? ` ${one.dead} given up.` : ""}
        </Text>
      </div>
      <Group gap={4}>
        {one.enabled ? (
          <Button {...act} loading={pinging.isPending} onClick={() => pinging.mutate()} aria-label={`Send a test to ${name}`} data-testid="webhook-ping">
            Test
          </Button>
        ) : null}
        <Button {...act} aria-expanded={open} aria-controls={list} onClick={() => setOpen(!open)} aria-label={`Deliveries of ${name}`} data-testid="webhook-deliveries">
          Deliveries
        </Button>
        <Button {...act} loading={changing.isPending} onClick={() => changing.mutate(!one.enabled)} aria-label={`${one.enabled ? "Disable" : "Enable"} ${name}`} data-testid="webhook-enable">
          {one.enabled ? "Disable" : "Enable"}
        </Button>
        <Button {...act} onClick={() => ask("rotate")} aria-label={`New secret for ${name}`} data-testid="webhook-rotate">
          New secret
        </Button>
        <Button {...act} c="red" onClick={() => ask("remove")} aria-label={`Remove ${name}`} data-testid="webhook-remove">
          Remove
        </Button>
      </Group>
      <div id={list} style={{ flexBasis: "100%" }} hidden={!open}>
        {open ? <Deliveries one={one} onDone={onDone} /> : null}
      </div>
      <Fault error={pinging.error ?? changing.error} />
      {asked === "remove" ? (
        <Confirm title="Remove the webhook?" act="Remove" onClose={() => ask(undefined)} doing={() => api.removeWebhook(one.id).then(onDone)}>
          Nothing is sent to “{name}” any more; what waits and what was given up are gone with it.
        </Confirm>
      ) : null}
      {asked === "rotate" ? (
        <Confirm title="Make a new secret?" act="Make it" onClose={() => ask(undefined)} doing={() => api.rotateWebhook(one.id).then(({ secret }) => (onSecret(secret), onDone()))}>
          “{name}” is signed with both for a day; then the old secret is over.
        </Confirm>
      ) : null}
    </li>
  );
}

function Deliveries({ one, onDone }: { one: Webhook; onDone: () => Promise<void> }) {
  const found = useQuery({ queryKey: ["deliveries", one.id, one.pending, one.dead], queryFn: ({ signal }) => api.webhookDeliveries(one.id, "", signal) });
  const replaying = useMutation({ mutationFn: (delivery: string) => api.replay(one.id, delivery), onSettled: onDone });
  const all = useMutation({ mutationFn: () => api.replayDead(one.id), onSettled: onDone });
  const items = found.data?.items ?? [];
  return (
    <>
      <Fault error={found.error ?? replaying.error ?? all.error} />
      {found.data && items.length === 0 ? <Text fz="xs">Nothing was sent yet.</Text> : null}
      {one.dead > 0 && one.enabled ? (
        <Button size="compact-xs" variant="default" mb={8} loading={all.isPending} onClick={() => all.mutate()} data-testid="replay-dead">
          {one.dead === 1 ? "Send the one given up again" : `Send all ${one.dead} given up again`}
        </Button>
      ) : null}
      <ul className="entries" aria-label={`Deliveries of ${plain(one.name)}`}>
        {items.map((each) => (
          <DeliveryRow key={each.id} each={each} able={one.enabled} busy={replaying.isPending} onReplay={() => replaying.mutate(each.id)} />
        ))}
      </ul>
    </>
  );
}

function DeliveryRow({ each, able, busy, onReplay }: { each: Delivery; able: boolean; busy: boolean; onReplay: () => void }) {
  return (
    <li data-testid="delivery-row" data-state={each.state}>
      <div className="what">
        <Text fz="xs" fw={500} span>
          {eventWords(each.type)}, {ago(each.createdAt)}
        </Text>
        <Text fz="xs" c={troubled(each) ? "red" : "dimmed"} style={{ overflowWrap: "anywhere" }}>
          {went(each)}
        </Text>
      </div>
      {able && (each.state === "dead" || each.state === "delivered") ? (
        <Button size="compact-xs" variant="subtle" disabled={busy} onClick={onReplay} aria-label={`Send again: ${eventWords(each.type)}, ${ago(each.createdAt)}`} data-testid="replay">
          Send again
        </Button>
      ) : null}
    </li>
  );
}
