import { Alert, Badge, Button, Drawer, Group, Loader, SegmentedControl, Text } from "@mantine/core";
import { Ban, Check } from "lucide-react";
import { useState } from "react";
import type { Contact, Network } from "../../net/api.ts";
import { Exact } from "../../ui/Exact.tsx";
import { ago, bytes, plural } from "../../ui/words.ts";
import { PolicyForm } from "./PolicyForm.tsx";
import { useNetwork } from "./live.ts";
import { POLICIES, reasonWords } from "./words.ts";

/** More domains than this are shown when asked for. */
const DOMAINS_AT_ONCE = 6;
type Shown = "all" | "refused";

/** What a session may reach, what it contacted and what it was refused, as it happens. */
export function NetworkPanel({ id, onClose }: { id: string; onClose: () => void }) {
  const { network, state } = useNetwork(id);
  return (
    <Drawer opened onClose={onClose} position="right" title="Network" size="md" closeButtonProps={{ "aria-label": "Close the network" }} data-testid="network-panel">
      {network ? (
        <>
          <PolicyPart key={network.policy + network.domains.join()} id={id} network={network} />
          <Contacts contacts={network.contacts} />
        </>
      ) : state === "waiting" ? (
        <Group gap={8} p={8} fz="sm" c="dimmed" role="status">
          <Loader size={14} /> Reading…
        </Group>
      ) : null}
      {state === "refused" ? (
        <Alert color="red" variant="light" role="alert" mt="sm">
          The network of this session cannot be read.
        </Alert>
      ) : null}
      {network && state === "waiting" ? (
        <Text fz="xs" c="dimmed" role="status" mt="xs">
          Connecting again; this is what was known before.
        </Text>
      ) : null}
    </Drawer>
  );
}

function PolicyPart({ id, network }: { id: string; network: Network }) {
  const [editing, edit] = useState(false);
  const [all, showAll] = useState(false);
  if (editing) return <PolicyForm id={id} network={network} onDone={() => edit(false)} />;
  const { label, hint } = POLICIES[network.policy];
  const shown = all ? network.domains : network.domains.slice(0, DOMAINS_AT_ONCE);
  const hidden = network.domains.length - shown.length;
  return (
    <section aria-label="Policy" className="netpolicy">
      <Group gap={8} wrap="nowrap">
        <Badge variant="light" color={network.policy === "full" ? "orange" : "gray"} flex="none" data-testid="network-policy" data-policy={network.policy}>
          {label}
        </Badge>
        <Text fz="sm" c="dimmed" flex={1} miw={0}>
          {hint}
        </Text>
        <Button size="xs" variant="default" flex="none" onClick={() => edit(true)} data-testid="change-policy">
          Change…
        </Button>
      </Group>
      {network.policy === "allow" ? (
        <ul className="domains" aria-label="Domains">
          {shown.map((domain) => (
            <li key={domain}>
              <code>
                <Exact text={domain} />
              </code>
            </li>
          ))}
          {hidden > 0 ? (
            <li>
              <Button size="compact-xs" variant="subtle" color="gray" onClick={() => showAll(true)}>
                {hidden} more
              </Button>
            </li>
          ) : null}
          {network.domains.length === 0 ? <li className="none">No domain is listed.</li> : null}
        </ul>
      ) : null}
    </section>
  );
}

function Contacts({ contacts }: { contacts: readonly Contact[] }) {
  const [shown, show] = useState<Shown>("all");
  const refused = contacts.filter((one) => one.verdict === "refused");
  const rows = shown === "all" ? contacts : refused;
  return (
    <section aria-label="Contacts">
      <SegmentedControl
        size="xs"
        fullWidth
        mb="xs"
        aria-label="Which contacts"
        value={shown}
        onChange={(value) => show(value)}
        data={[
          { value: "all", label: `All (${contacts.length})` },
          { value: "refused", label: `Refused (${refused.length})` },
        ]}
      />
      {rows.length === 0 ? (
        <Text fz="sm" c="dimmed" p={8} data-testid="no-contacts">
          {shown === "all" ? "Nothing has been contacted yet." : "Nothing has been refused."}
        </Text>
      ) : (
        <ul className="contacts" aria-label="Contacted hosts" data-testid="contacts">
          {rows.map((one) => (
            <Row key={JSON.stringify([one.host, one.port, one.reason])} one={one} />
          ))}
        </ul>
      )}
    </section>
  );
}

function Row({ one }: { one: Contact }) {
  const allowed = one.verdict === "allowed";
  const moved = one.bytesIn + one.bytesOut > 0 ? ` · ${bytes(one.bytesIn)} in, ${bytes(one.bytesOut)} out` : "";
  return (
    <li data-testid="contact" data-verdict={one.verdict} data-host={one.host}>
      {allowed ? <Check size={16} aria-label="Allowed" color="var(--mantine-color-teal-6)" /> : <Ban size={16} aria-label="Refused" color="var(--mantine-color-red-6)" />}
      <div>
        <div className="host">
          {one.host === "" ? (
            <em>{one.reason === "malformed" ? "no host" : "further hosts"}</em>
          ) : (
            <>
              <Exact text={one.host} />
              <span className="port">:{one.port}</span>
            </>
          )}
        </div>
        <div className="why">
          {reasonWords(one.reason)} · {plural(one.count, "time")}
          {moved}
        </div>
      </div>
      <time dateTime={one.last} title={one.last}>
        {ago(one.last)}
      </time>
    </li>
  );
}
