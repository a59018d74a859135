import { Badge, Button, Group, Paper, SegmentedControl, Stack, Text, Title, useMantineColorScheme } from "@mantine/core";
import type { ReactNode } from "react";
import { hrefOf } from "../../model/route.ts";
import type { Me } from "../../net/api.ts";
import { MembersPart } from "../members/MembersPart.tsx";
import { Notifications } from "../outgoing/Notifications.tsx";
import { Webhooks } from "../outgoing/Webhooks.tsx";
import { Secrets } from "../secrets/Secrets.tsx";
import { KeyPairs } from "./KeyPairs.tsx";
import { Keys } from "./Keys.tsx";
import { TerminalPrefs } from "../terminals/TerminalPrefs.tsx";
import { Rules } from "./Rules.tsx";
import { SignIns } from "./SignIns.tsx";
import { signOut } from "./signout.ts";

const GOOD = new Set(["vm", "gvisor", "namespaces"]);

export function Settings({ me }: { me: Me }) {
  const { server, principal } = me;
  return (
    <div className="newsession">
      <Stack gap="lg" w="100%" maw={720} mb="auto">
        <Title order={1} fz={22}>
          Settings
        </Title>
        <Part title="Isolation">
          <Group gap={8}>
            <Badge color={GOOD.has(server.isolation) ? "teal" : "orange"} variant="light" data-testid="isolation">
              {server.isolation}
            </Badge>
            <Text fz="sm">{server.isolationSummary}</Text>
          </Group>
          {server.isolationFindings.length > 0 ? (
            <ul style={{ margin: 0, paddingLeft: 18, fontSize: 14 }}>
              {server.isolationFindings.map((one, i) => (
                <li key={i}>{typeof one === "string" ? one : (one.message ?? one.summary ?? one.name ?? JSON.stringify(one))}</li>
              ))}
            </ul>
          ) : null}
        </Part>
        <Part title="Model">
          <Group gap={8}>
            <Badge color={server.demo ? "grape" : "teal"} variant="light" data-testid="model">
              {server.demo ? "demo" : server.provider}
            </Badge>
            <Text fz="sm">
              {server.model}
              {server.demo ? ": a scripted stand-in, used because no model credential was found." : ""}
            </Text>
          </Group>
        </Part>
        <Part title="Appearance">
          <Scheme />
        </Part>
        <Part title="Terminal">
          <TerminalPrefs />
        </Part>
        {principal.kind === "person" ? <Notifications /> : null}
        <Rules />
        {principal.scopes.includes("run") ? <Secrets files={server.isolation !== "none"} /> : null}
        <MembersPart me={me} />
        {principal.scopes.includes("admin") ? <Keys account={principal.account} usual={server.rates} /> : null}
        {principal.scopes.includes("admin") ? <KeyPairs account={principal.account} usual={server.rates} /> : null}
        {principal.scopes.includes("admin") ? <Webhooks /> : null}
        {principal.kind === "person" ? <SignIns /> : null}
        <Part title="Usage">
          <Group justify="space-between">
            <Text fz="sm">Tokens and cost, by day, person, key, session or model.</Text>
            <Button component="a" href={hrefOf({ page: "usage" })} variant="default" size="xs" data-testid="usage-open">
              Open the usage
            </Button>
          </Group>
        </Part>
        {principal.scopes.includes("admin") ? (
          <Part title="Audit">
            <Group justify="space-between">
              <Text fz="sm">Who did what, from where, and what came of it.</Text>
              <Button component="a" href={hrefOf({ page: "audit" })} variant="default" size="xs" data-testid="audit-open">
                Open the audit
              </Button>
            </Group>
          </Part>
        ) : null}
        <Part title="Account">
          <Group justify="space-between">
            <Text fz="sm">
              Signed in as <strong>{principal.name || principal.id}</strong>
            </Text>
            <Button variant="default" size="xs" onClick={() => signOut()} data-testid="signout">
              Sign out
            </Button>
          </Group>
        </Part>
        <Text fz="xs" c="dimmed">
          Pilothouse {server.version}
        </Text>
      </Stack>
    </div>
  );
}

export function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <Paper withBorder radius="md" p="md" component="section" aria-label={title}>
      <Stack gap="sm">
        <Title order={2} fz={15}>
          {title}
        </Title>
        {children}
      </Stack>
    </Paper>
  );
}

function Scheme() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <SegmentedControl
      size="xs"
      w="fit-content"
      aria-label="Colours"
      value={colorScheme}
      onChange={(value) => setColorScheme(value)}
      data={[
        { value: "auto", label: "System" },
        { value: "light", label: "Light" },
        { value: "dark", label: "Dark" },
      ]}
      data-testid="theme"
    />
  );
}
