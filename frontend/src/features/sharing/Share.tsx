import { Alert, Badge, Button, Code, Group, Modal, NativeSelect, Stack, Switch, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { LinkRight, Session, ShareLink } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { plain } from "../../protocol/reveal.ts";
import { CopyButton } from "../../ui/CopyButton.tsx";
import { api } from "../../wiring.ts";

const DAY_S = 86_400;
const RIGHTS: { value: LinkRight; label: string }[] = [
  { value: "watch", label: "Watch" },
  { value: "approve", label: "Watch and answer" },
  { value: "type", label: "Watch, and type in shells" },
];
const LASTS = [
  { value: String(DAY_S / 24), label: "an hour" },
  { value: String(DAY_S), label: "a day" },
  { value: String(7 * DAY_S), label: "7 days" },
  { value: String(30 * DAY_S), label: "30 days" },
];
const WORDS: Record<LinkRight, string> = { watch: "watch", approve: "watch and answer", type: "type in shells" };

/** Who else sees a session: everybody of the organisation or not, and whoever has a link. */
export function Share({ session, onClose }: { session: Session; onClose: () => void }) {
  const queries = useQueryClient();
  const key = ["links", session.id];
  const links = useQuery({ queryKey: key, queryFn: ({ signal }) => api.links(session.id, signal) });
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: key });
  const [right, setRight] = useState<LinkRight>("watch");
  const [lasts, setLasts] = useState(String(7 * DAY_S));
  const making = useMutation({
    mutationFn: () => api.makeLink(session.id, { right, expiresInS: Number(lasts) }),
    onSuccess: refresh,
  });
  const hiding = useMutation({
    mutationFn: (hidden: boolean) => api.changeSession(session.id, { private: hidden }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["sessions"] }),
  });
  const fault = links.error ?? making.error ?? hiding.error;
  return (
    <Modal opened onClose={onClose} title="Share session" centered size="lg" closeButtonProps={{ "aria-label": "Close" }}>
      <Stack gap="md" data-testid="share-dialog">
        <Switch
          label="Private"
          description="Not for other members, but those with a grant and the admins."
          checked={hiding.isPending ? hiding.variables : session.private === true}
          disabled={hiding.isPending}
          onChange={(event) => hiding.mutate(event.currentTarget.checked)}
          data-testid="private"
        />
        <form onSubmit={(event) => (event.preventDefault(), making.mutate())}>
          <Group gap="sm" align="flex-end">
            <NativeSelect label="Whoever has the link may" data={RIGHTS} value={right} onChange={(event) => setRight(event.currentTarget.value as LinkRight)} data-testid="link-right" />
            <NativeSelect label="for" data={LASTS} value={lasts} onChange={(event) => setLasts(event.currentTarget.value)} data-testid="link-lasts" />
            <Button type="submit" loading={making.isPending} data-testid="link-make">
              Make a link
            </Button>
          </Group>
        </form>
        {right === "approve" ? (
          <Text fz="sm" c="dimmed">
            What is answered by this link counts as your own answer. Give it to those you would let answer for you.
          </Text>
        ) : null}
        {right === "type" ? (
          <Text fz="sm" c="dimmed">
            Whoever has this link types in the shells that are there, and runs there what you may run. It opens no shell of its own.
          </Text>
        ) : null}
        {fault ? (
          <Alert color="red" variant="light" role="alert">
            {sayError(fault)}
          </Alert>
        ) : null}
        {making.data ? <Made url={making.data.url} onClose={() => making.reset()} /> : null}
        <Standing session={session.id} links={links.data?.items} onChange={refresh} />
      </Stack>
    </Modal>
  );
}

function Made({ url, onClose }: { url: string; onClose: () => void }) {
  return (
    <Alert className="good" color="teal" variant="light" title="Copy the link now: it is shown once" withCloseButton closeButtonLabel="Close" onClose={onClose}>
      <Group gap={8} wrap="nowrap">
        <Code data-testid="link-url" style={{ overflowWrap: "anywhere" }}>
          {url}
        </Code>
        <CopyButton text={url} label="Copy the link" />
      </Group>
    </Alert>
  );
}

function Standing({ session, links, onChange }: { session: string; links: ShareLink[] | undefined; onChange: () => Promise<void> }) {
  const revoking = useMutation({ mutationFn: (id: string) => api.revokeLink(session, id), onSuccess: onChange });
  if (!links || links.length === 0)
    return (
      <Text fz="sm" c="dimmed">
        {links ? "No link to this session stands." : "Reading the links…"}
      </Text>
    );
  return (
    <Stack gap={6} component="ul" className="links" aria-label="Links that stand">
      {links.map((one) => (
        <li key={one.id} data-testid="link-row">
          <Group gap={8} wrap="nowrap">
            <Badge flex="none" size="sm" variant="light" color={one.right === "watch" ? "gray" : "orange"}>
              {WORDS[one.right]}
            </Badge>
            <Text fz="sm" miw={0}>
              by {plain(one.madeBy)}, until {new Date(one.expiresAt).toLocaleString()}
            </Text>
            <Button ml="auto" flex="none" size="compact-xs" variant="subtle" color="red" loading={revoking.isPending && revoking.variables === one.id} onClick={() => revoking.mutate(one.id)} aria-label={`Revoke the link until ${new Date(one.expiresAt).toLocaleString()}`} data-testid="link-revoke">
              Revoke
            </Button>
          </Group>
        </li>
      ))}
      {revoking.error ? (
        <Text c="red" fz="sm" role="alert">
          {sayError(revoking.error)}
        </Text>
      ) : null}
    </Stack>
  );
}
