import { Group, Text } from "@mantine/core";
import type { Me } from "../../net/api.ts";
import { plain } from "../../protocol/reveal.ts";
import { Connection, ConnectionBanner } from "../../ui/Connection.tsx";
import { Mark } from "../../ui/Mark.tsx";
import { Chat } from "../chat/Chat.tsx";

/** The page of somebody who follows a share link: the one session, and no way from it to others. */
export function Visitor({ me, id }: { me: Me; id: string }) {
  return (
    <main className="main visitor" id="content" data-testid="visitor">
      <Group px="sm" py={6} gap={8} wrap="nowrap" className="visitorhead">
        <Mark />
        <Text fw={600}>Pilothouse</Text>
        <Text fz="sm" c="dimmed" truncate>
          Shared with you: {plain(me.principal.name)}
        </Text>
        <Group ml="auto">
          <Connection compact />
        </Group>
      </Group>
      <div className="banners">
        <ConnectionBanner />
      </div>
      <Chat id={id} me={me} onGone={() => undefined} />
    </main>
  );
}
