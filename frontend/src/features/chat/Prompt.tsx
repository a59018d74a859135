import { Button, Group, Text } from "@mantine/core";
import { Image } from "lucide-react";
import type { Outgoing } from "../../model/store.ts";
import type { EventOf } from "../../protocol/events.ts";
import { plain } from "../../protocol/reveal.ts";
import { bytes, clock, who } from "../../ui/words.ts";
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
      <Attached files={event.attachments ?? []} />
    </article>
  );
}

function Attached({ files }: { files: readonly { name: string; size?: number | undefined }[] }) {
  return files.map((one, i) => (
    <Group key={i} gap={4} fz="xs" c="dimmed" justify="flex-end" mt={3} data-testid="attachment">
      <Image size={13} aria-label="Picture" /> {plain(one.name)}
      {one.size === undefined ? null : <span>· {bytes(one.size)}</span>}
    </Group>
  ));
}

export function PendingPrompt({ one }: { one: Outgoing }) {
  return (
    <article className="prompt" data-testid="prompt-pending" data-pending={one.rejected ? undefined : "true"} aria-label="Prompt being sent">
      <div className="bubble" dir="auto">
        {one.message}
      </div>
      <Attached files={one.pictures ?? []} />
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
