import { Button, Group, Text } from "@mantine/core";
import { Paperclip } from "lucide-react";
import type { Outgoing } from "../../model/store.ts";
import type { EventOf } from "../../protocol/events.ts";
import { clock, who } from "../../ui/words.ts";
import { client } from "../../wiring.ts";

export function Prompt({ event }: { event: EventOf<"chat"> }) {
  return (
    <article className="prompt" data-testid="prompt" aria-label={`Prompt by ${who(event.by)}`}>
      <div className="by">
        {who(event.by)}
        {event.steer ? " · steered" : ""}
        {event.at ? ` · ${clock(event.at)}` : ""}
      </div>
      <div className="bubble" dir="auto">
        {event.message}
      </div>
      {event.attachments?.map((one) => (
        <Group key={one.name} gap={4} fz="xs" c="dimmed" justify="flex-end">
          <Paperclip size={12} /> {one.name}
        </Group>
      ))}
    </article>
  );
}

export function PendingPrompt({ one }: { one: Outgoing }) {
  return (
    <article className="prompt" data-testid="prompt-pending" data-pending={one.rejected ? undefined : "true"} aria-label="Prompt being sent">
      <div className="bubble" dir="auto">
        {one.message}
      </div>
      <div className="by" role="status">
        {one.rejected ? (
          <Group gap={6} justify="flex-end">
            <Text span c="red" fz="xs" role="alert">
              Not accepted: {one.rejected}
            </Text>
            <Button size="compact-xs" variant="subtle" color="gray" onClick={() => client.forget(one.id)}>
              Dismiss
            </Button>
          </Group>
        ) : (
          "Sending…"
        )}
      </div>
    </article>
  );
}
