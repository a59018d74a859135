import { Badge, Button, Checkbox, Code, Group, NativeSelect, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Key } from "../../net/api.ts";
import type { NewPair, PairSecret } from "../../net/people.ts";
import { plain } from "../../protocol/reveal.ts";
import { Confirm } from "../../ui/Confirm.tsx";
import { CopyButton } from "../../ui/CopyButton.tsx";
import { Exact } from "../../ui/Exact.tsx";
import { Fault } from "../../ui/Fault.tsx";
import { Secret } from "../../ui/Secret.tsx";
import { api } from "../../wiring.ts";
import { SCOPES } from "./Keys.tsx";
import { environment, standing } from "./pairs.ts";
import { Part } from "./Settings.tsx";

const DAY_S = 86_400;
const LASTS = [
  { value: "", label: "until revoked" },
  { value: String(DAY_S / 24), label: "an hour" },
  { value: String(DAY_S), label: "a day" },
  { value: String(7 * DAY_S), label: "7 days" },
  { value: String(30 * DAY_S), label: "30 days" },
  { value: String(90 * DAY_S), label: "90 days" },
  { value: String(365 * DAY_S), label: "a year" },
];

/** Access key ids and secrets, for clients that sign their requests. */
export function KeyPairs({ account }: { account: string | undefined }) {
  const queries = useQueryClient();
  const keys = useQuery({ queryKey: ["keys"], queryFn: ({ signal }) => api.keys(signal) });
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["keys"] });
  const [ending, end] = useState<Key>();
  const pairs = keys.data?.items.filter((one) => one.kind === "sigv4");
  return (
    <Part title="Key pairs">
      <Text fz="sm" c="dimmed">
        For AWS’s clients and SDKs, pointed at this server: they sign with them (Signature Version 4) and send no secret.
      </Text>
      <Fault error={keys.error} again={() => void keys.refetch()} />
      <MakePair onMade={refresh} />
      {pairs?.length === 0 ? <Text fz="sm">No key pair yet.</Text> : null}
      {pairs && pairs.length > 0 ? (
        <ul className="members" aria-label="Key pairs">
          {pairs.map((one) => (
            <PairRow key={one.id} one={one} account={account} onRevoke={() => end(one)} />
          ))}
        </ul>
      ) : null}
      {ending ? (
        <Confirm title="Revoke the key pair?" act="Revoke" onClose={() => end(undefined)} doing={() => api.revokeKey(ending.id).then(refresh)}>
          Whatever signs with “{plain(ending.name)}” ({ending.id}) is refused from then on, and what it has open is closed. It cannot be brought back.
        </Confirm>
      ) : null}
    </Part>
  );
}

function MakePair({ onMade }: { onMade: () => Promise<void> }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["read", "run", "approve"]);
  const [lasts, setLasts] = useState("");
  const [token, setToken] = useState(false);
  const making = useMutation({
    mutationFn: () => {
      const wish: NewPair = { name: name.trim() || "key pair", scopes };
      if (lasts) wish.expiresInS = Number(lasts);
      if (token) wish.sessionToken = true;
      return api.createPair(wish);
    },
    onSuccess: async () => {
      setName("");
      await onMade();
    },
    gcTime: 0,
  });
  return (
    <>
      {making.data ? <MadePair made={making.data} onClose={() => making.reset()} /> : null}
      <form onSubmit={(event) => (event.preventDefault(), making.mutate())} aria-label="Make a key pair">
        <Group gap="sm" align="flex-end">
          <TextInput size="xs" label="Name" value={name} maxLength={80} onChange={(event) => setName(event.currentTarget.value)} data-testid="pair-name" />
          <Checkbox.Group label="Scopes" size="xs" value={scopes} onChange={setScopes}>
            <Group gap="sm" h={30}>
              {SCOPES.map((one) => (
                <Checkbox key={one} size="xs" value={one} label={one} data-testid={`pair-scope-${one}`} />
              ))}
            </Group>
          </Checkbox.Group>
          <NativeSelect size="xs" label="Good for" data={LASTS} value={lasts} onChange={(event) => setLasts(event.currentTarget.value)} data-testid="pair-lasts" />
          <Button type="submit" size="xs" disabled={scopes.length === 0} loading={making.isPending} data-testid="pair-make">
            Make
          </Button>
        </Group>
        <Checkbox mt="xs" size="xs" label="With a session token, which every request has to carry" checked={token} onChange={(event) => setToken(event.currentTarget.checked)} data-testid="pair-token" />
      </form>
      <Fault error={making.error} />
    </>
  );
}

function MadePair({ made, onClose }: { made: PairSecret; onClose: () => void }) {
  const parts = [
    { name: "Access key ID", value: made.accessKeyId, testid: "pair-id" },
    { name: "Secret access key", value: made.secretAccessKey, testid: "pair-secret" },
    ...(made.sessionToken ? [{ name: "Session token", value: made.sessionToken, testid: "pair-session-token" }] : []),
  ];
  return (
    <Secret title="Copy the secret now: it is shown once" parts={parts} onClose={onClose}>
      <Group gap={8} mt={8} fz="sm">
        <span>All of it, as lines for a shell</span>
        <CopyButton text={environment(made)} label="Copy as environment variables" />
      </Group>
    </Secret>
  );
}

function PairRow({ one, account, onRevoke }: { one: Key; account: string | undefined; onRevoke: () => void }) {
  return (
    <li data-testid="pair-row">
      <div className="whom">
        <Text fz="sm" fw={500} span>
          <Exact text={one.name} />
        </Text>
        <Code>{one.id}</Code>
        <Text fz="xs" c="dimmed">
          {standing(one, account)}
        </Text>
      </div>
      <div className="marks">
        {one.scopes.map((scope) => (
          <Badge key={scope} size="xs" variant="light" color="gray">
            {scope}
          </Badge>
        ))}
      </div>
      <Button size="compact-xs" variant="subtle" color="red" onClick={onRevoke} aria-label={`Revoke ${plain(one.name)}, ${one.id}`} data-testid="pair-revoke">
        Revoke
      </Button>
    </li>
  );
}
