import { Alert, Anchor, Badge, Button, Group, Loader, NativeSelect, Stack, Table, Text, TextInput, Title } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { hrefOf } from "../../model/route.ts";
import type { AuditRecord } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { Exact } from "../../ui/Exact.tsx";
import { plural } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { GROUPS, detailsOf, momentOf, sessionOf, whatOf, whoOf } from "./words.ts";

const TYPED_MS = 300;

/** Who did what to which thing, from where: the organisation's records, newest first. */
export function Audit() {
  const [action, setAction] = useState("");
  const [typed, setTyped] = useState("");
  const [who] = useDebouncedValue(typed.trim(), TYPED_MS);
  const found = useInfiniteQuery({
    queryKey: ["audit", action, who],
    queryFn: ({ signal, pageParam }) => api.audit({ action, who, before: pageParam }, signal),
    initialPageParam: 0,
    getNextPageParam: (page) => page.next ?? undefined,
  });
  const records = found.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <div className="newsession">
      <Stack gap="md" w="100%" maw={920} mb="auto">
        <Group justify="space-between">
          <Title order={1} fz={22}>
            Audit
          </Title>
          <Button size="xs" variant="default" loading={found.isRefetching} onClick={() => void found.refetch()} data-testid="audit-refresh">
            Read again
          </Button>
        </Group>
        <Text fz="sm" c="dimmed">
          Each record holds the hash of the one before. <code>pilothouse audit verify</code> checks an export.
        </Text>
        <Group gap="sm" align="flex-end" role="search" aria-label="Filter the audit">
          <NativeSelect label="What" size="xs" value={action} onChange={(event) => setAction(event.currentTarget.value)} data={[...GROUPS]} data-testid="audit-action" />
          <TextInput label="Name or address" size="xs" value={typed} maxLength={100} onChange={(event) => setTyped(event.currentTarget.value)} data-testid="audit-who" />
        </Group>
        {found.error ? (
          <Alert color="red" variant="light" role="alert">
            {sayError(found.error)}
          </Alert>
        ) : null}
        {found.isPending ? (
          <Group gap={8} fz="sm" c="dimmed" role="status">
            <Loader size={14} /> Reading…
          </Group>
        ) : (
          <Text fz="xs" c="dimmed" role="status" data-testid="audit-count">
            {records.length === 0 ? nothing(found.hasNextPage) : plural(records.length, "record")}
          </Text>
        )}
        {records.length > 0 ? <Records records={records} /> : null}
        {found.hasNextPage ? (
          <Button variant="default" size="xs" w="fit-content" loading={found.isFetchingNextPage} onClick={() => void found.fetchNextPage()} data-testid="audit-more">
            {records.length === 0 ? "Look further back" : "Show older ones"}
          </Button>
        ) : null}
      </Stack>
    </div>
  );
}

const nothing = (more: boolean): string => (more ? "None among the newest." : "There is no such record.");

function Records({ records }: { records: readonly AuditRecord[] }) {
  return (
    <Table fz="sm" verticalSpacing={8} className="audit" data-testid="audit">
      <Table.Thead>
        <Table.Tr>
          <Table.Th>When</Table.Th>
          <Table.Th>Who</Table.Th>
          <Table.Th>What</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {records.map((one) => (
          <Row key={one.seq} one={one} />
        ))}
      </Table.Tbody>
    </Table>
  );
}

function Row({ one }: { one: AuditRecord }) {
  const details = detailsOf(one);
  return (
    <Table.Tr data-testid="audit-row" data-seq={one.seq} data-action={one.action}>
      <Table.Td>
        <time dateTime={one.at} title={`${one.at}, record ${one.seq}`}>
          {momentOf(one.at)}
        </time>
      </Table.Td>
      <Table.Td>
        <Exact text={whoOf(one)} />
        {one.address ? (
          <div className="quiet ids">
            <Exact text={one.address} />
          </div>
        ) : null}
      </Table.Td>
      <Table.Td>
        <Group gap={6}>
          <span>{whatOf(one)}</span>
          {one.outcome === "ok" ? null : (
            <Badge size="sm" variant="light" color="orange">
              {one.outcome}
            </Badge>
          )}
        </Group>
        {one.object ? (
          <div className="ids">
            <Thing object={one.object} />
          </div>
        ) : null}
        {details.length > 0 ? (
          <div className="quiet">
            {details.map(([name, text], i) => (
              <span key={name}>
                {i > 0 ? " · " : ""}
                {name}: <Exact text={text} />
              </span>
            ))}
          </div>
        ) : null}
      </Table.Td>
    </Table.Tr>
  );
}

/** A session may be gone; whoever opens it is told so there. */
function Thing({ object }: { object: string }) {
  const session = sessionOf(object);
  if (session === undefined) return <Exact text={object} />;
  return (
    <Anchor fz="inherit" href={hrefOf({ page: "session", id: session })}>
      {object}
    </Anchor>
  );
}
