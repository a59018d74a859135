import { Alert, Anchor, Badge, Button, Code, Table, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { hrefOf } from "../../model/route.ts";
import type { Rule } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { Exact } from "../../ui/Exact.tsx";
import { ago, who } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { Part } from "./Settings.tsx";

/** Remembered answers: what goes ahead, or is denied, without being asked again. */
export function Rules() {
  const queries = useQueryClient();
  const rules = useQuery({ queryKey: ["rules"], queryFn: ({ signal }) => api.rules(signal) });
  const removing = useMutation({
    mutationFn: (id: string) => api.removeRule(id),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["rules"] }),
  });
  const fault = rules.error ?? removing.error;
  const items = rules.data?.items ?? [];
  return (
    <Part title="Remembered answers">
      <Text fz="sm" c="dimmed">
        Answers given with “always”. Without one, the agent asks again.
      </Text>
      {fault ? (
        <Alert color="red" variant="light" role="alert">
          {sayError(fault)}
        </Alert>
      ) : null}
      {rules.data && items.length === 0 ? <Text fz="sm">None.</Text> : null}
      {items.length > 0 ? (
        <Table.ScrollContainer minWidth={520} className="figures">
          <Table fz="sm" verticalSpacing={6}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Rule</Table.Th>
                <Table.Th>Answer</Table.Th>
                <Table.Th>Where</Table.Th>
                <Table.Th>By</Table.Th>
                <Table.Th aria-label="Remove" />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {items.map((one) => (
                <Table.Tr key={one.id} data-testid="rule-row">
                  <Table.Td>
                    <Code>
                      <Exact text={one.rule || one.tool} />
                    </Code>
                  </Table.Td>
                  <Table.Td>
                    <Badge size="sm" variant="light" color={one.outcome === "approved" ? "teal" : "red"}>
                      {one.outcome}
                    </Badge>
                  </Table.Td>
                  <Table.Td>
                    <Where rule={one} />
                  </Table.Td>
                  <Table.Td>
                    {who(one.by)}, {ago(one.createdAt)}
                  </Table.Td>
                  <Table.Td ta="right">
                    <Button size="compact-xs" variant="subtle" color="red" loading={removing.isPending && removing.variables === one.id} onClick={() => removing.mutate(one.id)} aria-label={`Remove ${one.rule || one.tool}`} data-testid="rule-remove">
                      Remove
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

function Where({ rule }: { rule: Rule }) {
  if (rule.scope === "session" && rule.sessionId) return (
      <Anchor fz="sm" href={hrefOf({ page: "session", id: rule.sessionId })}>
        one session
      </Anchor>
    );
  if (rule.scope === "project" && rule.project) return <Exact text={rule.project} />;
  return rule.scope;
}
