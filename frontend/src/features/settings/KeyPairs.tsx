import { Button, Checkbox, Group, NativeSelect, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { NewPair, PairSecret, Rates } from "../../net/people.ts";
import { CopyButton } from "../../ui/CopyButton.tsx";
import { Fault } from "../../ui/Fault.tsx";
import { Secret } from "../../ui/Secret.tsx";
import { api } from "../../wiring.ts";
import { KeyList } from "./KeyList.tsx";
import { SCOPES, environment } from "./keywords.ts";
import { RateFields } from "./RateFields.tsx";
import { elsewhere, useRates } from "./rates.ts";
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
export function KeyPairs({ account, usual }: { account: string | undefined; usual?: Rates | undefined }) {
  const queries = useQueryClient();
  const keys = useQuery({ queryKey: ["keys"], queryFn: ({ signal }) => api.keys(signal) });
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["keys"] });
  return (
    <Part title="Key pairs">
      <Text fz="sm" c="dimmed">
        For AWS’s clients and SDKs, pointed at this server: they sign with them (Signature Version 4) and send no secret.
      </Text>
      <Fault error={keys.error} again={() => void keys.refetch()} />
      <MakePair usual={usual} onMade={refresh} />
      {keys.data ? <KeyList what="key pair" keys={keys.data.items.filter((one) => one.kind === "sigv4")} account={account} onRevoke={refresh} /> : null}
    </Part>
  );
}

function MakePair({ usual, onMade }: { usual: Rates | undefined; onMade: () => Promise<void> }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["read", "run", "approve"]);
  const [lasts, setLasts] = useState("");
  const [token, setToken] = useState(false);
  const rates = useRates();
  const making = useMutation({
    mutationFn: () => {
      const wish: NewPair = { name: name.trim() || "key pair", scopes, ...rates.wish() };
      if (lasts) wish.expiresInS = Number(lasts);
      if (token) wish.sessionToken = true;
      return api.createPair(wish);
    },
    onError: rates.refused,
    onSuccess: async () => {
      setName("");
      rates.clear();
      await onMade();
    },
    gcTime: 0,
  });
  return (
    <>
      {making.data ? <MadePair made={making.data} onClose={() => making.reset()} /> : null}
      <form onSubmit={(event) => (event.preventDefault(), rates.check() ? making.mutate() : undefined)} aria-label="Make a key pair">
        <Group gap="sm" align="flex-end">
          <TextInput size="xs" label="Name" value={name} maxLength={80} onChange={(event) => setName(event.currentTarget.value)} data-testid="pair-name" />
          <Checkbox.Group label="Scopes" size="xs" value={scopes} onChange={setScopes}>
            <Group gap="sm" mih={30}>
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
        <RateFields what="key pair" rates={rates} usual={usual} />
      </form>
      <Fault error={elsewhere(making.error)} />
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
