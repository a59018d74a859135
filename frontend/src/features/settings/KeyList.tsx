import { Badge, Button, Code, Text } from "@mantine/core";
import { useState } from "react";
import type { Key } from "../../net/api.ts";
import { plain } from "../../protocol/reveal.ts";
import { Confirm } from "../../ui/Confirm.tsx";
import { Exact } from "../../ui/Exact.tsx";
import { api } from "../../wiring.ts";
import { standing } from "./keywords.ts";

interface Props {
  what: "API key" | "key pair";
  keys: readonly Key[];
  /** The reader's own. */
  account: string | undefined;
  onRevoke: () => Promise<void>;
}

/** Keys or key pairs that stand, to be revoked. */
export function KeyList({ what, keys, account, onRevoke }: Props) {
  const [ending, end] = useState<Key>();
  const test = what === "API key" ? "key" : "pair";
  if (keys.length === 0) return <Text fz="sm">No {what} yet.</Text>;
  return (
    <>
      <ul className="entries" aria-label={`${what}s`}>
        {keys.map((one) => (
          <li key={one.id} className="stack" data-testid={`${test}-row`}>
            <div className="what">
              <Text fz="sm" fw={500} span>
                <Exact text={one.name || "Unnamed"} />
              </Text>
              {one.kind === "sigv4" ? <Code>{one.id}</Code> : null}
              <Text fz="xs" c="dimmed">
                {standing(one, account)}
              </Text>
            </div>
            <div className="marks">
              {one.scopes.map((scope) => (
                <Badge key={scope} size="xs" variant="light" color="gray" tt="none">
                  {scope}
                </Badge>
              ))}
            </div>
            <Button size="compact-xs" variant="subtle" color="red" onClick={() => end(one)} aria-label={`Revoke ${plain(one.name)}, ${one.id}`} data-testid={`${test}-revoke`}>
              Revoke
            </Button>
          </li>
        ))}
      </ul>
      {ending ? (
        <Confirm title={`Revoke the ${what}?`} act="Revoke" onClose={() => end(undefined)} doing={() => api.revokeKey(ending.id).then(onRevoke)}>
          Whatever uses “{plain(ending.name)}” ({ending.id}) is refused from then on, and what it has open is closed. It cannot be brought back.
        </Confirm>
      ) : null}
    </>
  );
}
