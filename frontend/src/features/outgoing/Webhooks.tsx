import { Button, Checkbox, Code, Group, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Fault } from "../../ui/Fault.tsx";
import { Secret } from "../../ui/Secret.tsx";
import { api } from "../../wiring.ts";
import { Part } from "../settings/Settings.tsx";
import { WebhookRow } from "./WebhookRow.tsx";
import { WEBHOOK_EVENTS } from "./words.ts";

const KEY = ["webhooks"];
const SOON_MS = 2_000;

/** Where the organisation's events are sent. For administrators. */
export function Webhooks() {
  const queries = useQueryClient();
  const webhooks = useQuery({
    queryKey: KEY,
    queryFn: ({ signal }) => api.webhooks(signal),
    refetchInterval: ({ state }) => (state.data?.items.some((one) => one.pending > 0) ? SOON_MS : false),
  });
  const refresh = async (): Promise<void> => {
    await queries.invalidateQueries({ queryKey: KEY });
    await queries.invalidateQueries({ queryKey: ["deliveries"] });
  };
  const [secret, show] = useState<string>();
  return (
    <Part title="Webhooks">
      <Text fz="sm" c="dimmed">
        What happens in your organisation’s sessions is sent to an address, signed with a secret of its own in the header <Code style={{ whiteSpace: "nowrap" }}>webhook-signature</Code>.
      </Text>
      <Fault error={webhooks.error} again={() => void webhooks.refetch()} />
      {secret ? <Secret title="Copy the secret now: it is shown once" parts={[{ name: "Secret", value: secret, testid: "webhook-secret" }]} onClose={() => show(undefined)} /> : null}
      <Make onMade={(made) => (show(made), refresh())} />
      {webhooks.data && webhooks.data.items.length > 0 ? (
        <ul className="entries" aria-label="Webhooks">
          {webhooks.data.items.map((one) => (
            <WebhookRow key={one.id} one={one} onDone={refresh} onSecret={show} />
          ))}
        </ul>
      ) : null}
      {webhooks.data?.items.length === 0 ? <Text fz="sm" c="dimmed">No webhook yet.</Text> : null}
    </Part>
  );
}

function Make({ onMade }: { onMade: (secret: string) => Promise<void> }) {
  const [url, setUrl] = useState("");
  const [name, setName] = useState("");
  const [events, setEvents] = useState(WEBHOOK_EVENTS.map((one) => one.value));
  const making = useMutation({
    mutationFn: () => api.makeWebhook({ url: url.trim(), name: name.trim() || "webhook", events }),
    onSuccess: ({ secret }) => (setUrl(""), setName(""), onMade(secret)),
    gcTime: 0,
  });
  return (
    <form onSubmit={(event) => (event.preventDefault(), making.mutate())} aria-label="Make a webhook">
      <Group gap="sm" align="flex-end">
        <TextInput size="xs" flex={2} miw={200} label="Address" placeholder="https://…" autoComplete="off" value={url} maxLength={2048} onChange={(event) => setUrl(event.currentTarget.value)} data-testid="webhook-url" />
        <TextInput size="xs" flex={1} miw={120} label="Name" value={name} maxLength={80} onChange={(event) => setName(event.currentTarget.value)} data-testid="webhook-name" />
      </Group>
      <Group gap="sm" align="flex-end" mt={8} justify="space-between">
        <Checkbox.Group label="Send when" size="xs" value={events} onChange={setEvents}>
          <Group gap="sm" mih={30}>
            {WEBHOOK_EVENTS.map(({ value, label }) => (
              <Checkbox key={value} size="xs" value={value} label={label} />
            ))}
          </Group>
        </Checkbox.Group>
        <Button type="submit" size="xs" disabled={url.trim() === "" || events.length === 0} loading={making.isPending} data-testid="webhook-create">
          Create
        </Button>
      </Group>
      <Fault error={making.error} />
    </form>
  );
}
