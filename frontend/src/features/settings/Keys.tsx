import { Anchor, Button, Checkbox, Code, Group, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Rates } from "../../net/people.ts";
import { Fault } from "../../ui/Fault.tsx";
import { Secret } from "../../ui/Secret.tsx";
import { api } from "../../wiring.ts";
import { KeyList } from "./KeyList.tsx";
import { SCOPES } from "./keywords.ts";
import { RateFields } from "./RateFields.tsx";
import { elsewhere, useRates } from "./rates.ts";
import { Part } from "./Settings.tsx";

export function Keys({ account, usual }: { account?: string | undefined; usual?: Rates | undefined }) {
  const queries = useQueryClient();
  const keys = useQuery({ queryKey: ["keys"], queryFn: ({ signal }) => api.keys(signal) });
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["keys"] });
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["read", "run", "approve"]);
  const rates = useRates();
  const creating = useMutation({
    mutationFn: () => api.createKey({ name: name.trim() || "key", scopes, ...rates.wish() }),
    onError: rates.refused,
    onSuccess: () => (setName(""), rates.clear(), refresh()),
    gcTime: 0,
  });
  return (
    <Part title="API keys">
      <Text fz="sm" c="dimmed">
        For programs and the command line: sent as <Code>x-api-key</Code>. What they may call is in the{" "}
        <Anchor fz="inherit" underline="always" href="./docs" data-testid="api-docs">
          API reference
        </Anchor>
        .
      </Text>
      <Fault error={keys.error} again={() => void keys.refetch()} />
      {creating.data ? <Secret title="Copy the key now: it is shown once" parts={[{ name: "Key", value: creating.data.key, testid: "key-value" }]} onClose={() => creating.reset()} /> : null}
      <form onSubmit={(event) => (event.preventDefault(), rates.check() ? creating.mutate() : undefined)} aria-label="Make an API key">
        <Group gap="sm" align="flex-end">
          <TextInput size="xs" label="Name" value={name} maxLength={80} onChange={(event) => setName(event.currentTarget.value)} data-testid="key-name" />
          <Checkbox.Group label="Scopes" size="xs" value={scopes} onChange={setScopes}>
            <Group gap="sm" mih={30}>
              {SCOPES.map((one) => (
                <Checkbox key={one} size="xs" value={one} label={one} />
              ))}
            </Group>
          </Checkbox.Group>
          <Button type="submit" size="xs" disabled={scopes.length === 0} loading={creating.isPending} data-testid="key-create">
            Create
          </Button>
        </Group>
        <RateFields what="API key" rates={rates} usual={usual} />
      </form>
      <Fault error={elsewhere(creating.error)} />
      {keys.data ? <KeyList what="API key" keys={keys.data.items.filter((one) => one.kind !== "sigv4")} account={account} onRevoke={refresh} /> : null}
    </Part>
  );
}
