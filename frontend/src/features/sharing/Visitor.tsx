import { Group, Text } from "@mantine/core";
import type { Me } from "../../net/api.ts";
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
          A session shared with you
        </Text>
        <Group ml="auto">
          <Connection compact />
        </Group>
      </Group>
      <div className="banners">
        <ConnectionBanner />
        {me.server.demo ? (
          <div className="banner" data-tone="demo" role="note">
            <strong>Demo model.</strong> A scripted stand-in answers, not a real model.
          </div>
        ) : null}
      </div>
      <Chat id={id} me={me} onGone={() => undefined} />
    </main>
  );
}
