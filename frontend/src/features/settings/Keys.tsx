import { Alert, Badge, Button, Checkbox, Code, Group, Table, Text, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { sayError } from "../../net/http.ts";
import { CopyButton } from "../../ui/CopyButton.tsx";
import { ago } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { Part } from "./Settings.tsx";

export const SCOPES = ["read", "run", "approve", "admin"];

export function Keys() {
  const queries = useQueryClient();
  const keys = useQuery({ queryKey: ["keys"], queryFn: ({ signal }) => api.keys(signal) });
  const refresh = () => queries.invalidateQueries({ queryKey: ["keys"] });
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["read", "run", "approve"]);
  const creating = useMutation({ mutationFn: () => api.createKey(name.trim(), scopes), onSuccess: () => (setName(""), refresh()) });
  const revoking = useMutation({ mutationFn: (id: string) => api.revokeKey(id), onSuccess: refresh });
  const fault = keys.error ?? creating.error ?? revoking.error;
  const items = keys.data?.items.filter((one) => one.kind !== "sigv4") ?? [];
  return (
    <Part title="API keys">
      <Text fz="sm" c="dimmed">
        For programs and the command line: sent as <Code>x-api-key</Code>.
      </Text>
      {fault ? (
        <Alert color="red" variant="light" role="alert">
          {sayError(fault)}
        </Alert>
      ) : null}
      {creating.data ? (
        <Alert className="good" color="teal" variant="light" title="Copy the key now: it is shown once" withCloseButton closeButtonLabel="Close" onClose={() => creating.reset()}>
          <Group gap={8} wrap="nowrap">
            <Code data-testid="key-value" style={{ overflowWrap: "anywhere" }}>
              {creating.data.key}
            </Code>
            <CopyButton text={creating.data.key} label="Copy the key" />
          </Group>
        </Alert>
      ) : null}
      <form onSubmit={(event) => (event.preventDefault(), creating.mutate())}>
        <Group gap="sm" align="flex-end">
          <TextInput size="xs" label="Name" value={name} maxLength={80} onChange={(event) => setName(event.currentTarget.value)} data-testid="key-name" />
          <Checkbox.Group label="Scopes" size="xs" value={scopes} onChange={setScopes}>
            <Group gap="sm" h={30}>
              {SCOPES.map((one) => (
                <Checkbox key={one} size="xs" value={one} label={one} />
              ))}
            </Group>
          </Checkbox.Group>
          <Button type="submit" size="xs" disabled={scopes.length === 0} loading={creating.isPending} data-testid="key-create">
            Create
          </Button>
        </Group>
      </form>
      {items.length > 0 ? (
        <Table.ScrollContainer minWidth={440} className="figures">
          <Table fz="sm" verticalSpacing={6}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Name</Table.Th>
                <Table.Th>Scopes</Table.Th>
                <Table.Th>Used</Table.Th>
                <Table.Th aria-label="Revoke" />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {items.map((one) => (
                <Table.Tr key={one.id} data-testid="key-row">
                  <Table.Td>{one.name || "Unnamed"}</Table.Td>
                  <Table.Td>
                    <Group gap={4}>
                      {one.scopes.map((scope) => (
                        <Badge key={scope} size="xs" variant="light" color="gray">
                          {scope}
                        </Badge>
                      ))}
                    </Group>
                  </Table.Td>
                  <Table.Td>{one.lastUsedAt ? ago(one.lastUsedAt) : "never"}</Table.Td>
                  <Table.Td ta="right">
                    <Button size="compact-xs" variant="subtle" color="red" loading={revoking.isPending && revoking.variables === one.id} onClick={() => revoking.mutate(one.id)} aria-label={`Revoke ${one.name || "key"}`} data-testid="key-revoke">
                      Revoke
                    </Button>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      ) : null}
    </Part>
  );
}
