import { Alert, Anchor, Button, Group, Loader, NativeSelect, Stack, Table, Text, TextInput, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { hrefOf } from "../../model/route.ts";
import type { UsageTable, Used } from "../../net/usage.ts";
import { sayError } from "../../net/http.ts";
import { Exact } from "../../ui/Exact.tsx";
import { plural } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { FIELDS, PERIODS, count, daysOf, everyDay, money, nameOf, share, tokensOf, unmeasured } from "./words.ts";
import type { Days, Field, Period } from "./words.ts";

const LABELS: Record<Field, string> = { day: "Day", person: "Person", key: "Key", session: "Session", model: "Model" };
/** Shown at once; all of them are in the file. */
const SHOWN = 100;

/** What was used and what it cost: the organisation's for its admins, one's own for everybody else. */
export function Usage() {
  const [period, setPeriod] = useState<Period>("30");
  const [by, setBy] = useState<Field>("day");
  const [now, setNow] = useState(() => Date.now());
  const [own, setOwn] = useState<Days>(() => daysOf("30", now, { from: "", to: "" }));
  const days = daysOf(period, now, own);
  const whole = days.from !== "" && days.to !== "";
  const found = useQuery({ queryKey: ["usage", days, by], queryFn: ({ signal }) => api.usage({ ...days, by }, signal), enabled: whole });
  return (
    <div className="newsession">
      <Stack gap="md" w="100%" maw={920} mt={0} mb="auto">
        <Group justify="space-between">
          <Title order={1} fz={22}>
            Usage
          </Title>
          <Button component="a" href={api.usageCsvUrl({ ...days, by })} download size="xs" variant="default" disabled={!whole} data-testid="usage-csv">
            Download CSV
          </Button>
        </Group>
        <Group gap="sm" align="flex-end" role="search" aria-label="Choose what is shown">
          <NativeSelect label="Period" size="xs" value={period} onChange={(event) => (setNow(Date.now()), setPeriod(event.currentTarget.value as Period))} data={[...PERIODS]} data-testid="usage-period" />
          {period === "own" ? (
            <>
              <TextInput type="date" label="From" size="xs" value={own.from} onChange={(event) => setOwn({ ...own, from: event.currentTarget.value })} data-testid="usage-from" />
              <TextInput type="date" label="To" size="xs" value={own.to} onChange={(event) => setOwn({ ...own, to: event.currentTarget.value })} data-testid="usage-to" />
            </>
          ) : null}
          <NativeSelect label="By" size="xs" value={by} onChange={(event) => setBy(event.currentTarget.value as Field)} data={FIELDS.map((value) => ({ value, label: LABELS[value] }))} data-testid="usage-by" />
        </Group>
        {found.error ? (
          <Alert color="red" variant="light" role="alert">
            {sayError(found.error)}
          </Alert>
        ) : null}
        {found.isPending && whole ? (
          <Group gap={8} fz="sm" c="dimmed" role="status">
            <Loader size={14} /> Reading…
          </Group>
        ) : null}
        {found.data ? <Found table={found.data} by={by} days={days} /> : null}
      </Stack>
    </div>
  );
}

function Found({ table, by, days }: { table: UsageTable; by: Field; days: Days }) {
  const { total } = table;
  const rows = by === "day" ? everyDay(table.items, days) : table.items;
  const notes = unmeasured(total);
  return (
    <>
      <Text fz="sm" role="status" data-testid="usage-total">
        <strong>{money(total.costUsd)}</strong> · {count(tokensOf(total))} tokens · {count(total.calls)} model {total.calls === 1 ? "call" : "calls"}
        {total.refused > 0 ? ` · ${count(total.refused)} refused` : ""}
        <Text span inherit c="dimmed">
          {" "}
          ({table.whose === "own" ? "what your own prompts have used" : "the whole organisation"}; days of UTC)
        </Text>
      </Text>
      {notes.length > 0 ? (
        <ul className="usage-notes" data-testid="usage-notes">
          {notes.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      ) : null}
      {table.items.length === 0 ? (
        <Text fz="sm" c="dimmed">
          Nothing was used in this time.
        </Text>
      ) : (
        <Table fz="sm" verticalSpacing={6} className="usagetable" data-testid="usage">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>{LABELS[by]}</Table.Th>
              <Table.Th className="wide">Calls</Table.Th>
              <Table.Th className="wide">Input</Table.Th>
              <Table.Th className="wide">Output</Table.Th>
              <Table.Th className="wide">From cache</Table.Th>
              <Table.Th className="narrow">Tokens</Table.Th>
              <Table.Th>Cost</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.slice(0, SHOWN).map((row) => (
              <Row key={[row.day, row.person, row.key, row.session, row.model].join("\n")} row={row} by={by} part={share(row, rows)} />
            ))}
          </Table.Tbody>
        </Table>
      )}
      {rows.length > SHOWN ? (
        <Text fz="xs" c="dimmed">
          {plural(rows.length - SHOWN, "more row")} in the CSV.
        </Text>
      ) : null}
    </>
  );
}

function Row({ row, by, part }: { row: Used; by: Field; part: number }) {
  const { name, also } = nameOf(row, by);
  return (
    <Table.Tr data-testid="usage-row">
      <Table.Th scope="row">
        {by === "session" && row.session && row.sessionTitle ? (
          <Anchor fz="inherit" className="clamped" href={hrefOf({ page: "session", id: row.session })}>
            <Exact text={name} />
          </Anchor>
        ) : (
          <Exact text={name} />
        )}
        {also ? (
          <div className="quiet">
            <Exact text={also} />
          </div>
        ) : null}
        <div className="usage-bar" aria-hidden="true">
          <div style={{ width: `${(part * 100).toFixed(1)}%` }} />
        </div>
      </Table.Th>
      <Table.Td className="wide">{count(row.calls)}</Table.Td>
      <Table.Td className="wide">{count(row.inputTokens + row.cacheWriteTokens)}</Table.Td>
      <Table.Td className="wide">{count(row.outputTokens)}</Table.Td>
      <Table.Td className="wide">{count(row.cacheReadTokens)}</Table.Td>
      <Table.Td className="narrow">{count(tokensOf(row))}</Table.Td>
      <Table.Td>{money(row.costUsd)}</Table.Td>
    </Table.Tr>
  );
}
