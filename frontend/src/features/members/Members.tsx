import { Button, Group, Loader, NativeSelect, Stack, Text, TextInput, Title } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Me } from "../../net/api.ts";
import type { Member } from "../../net/people.ts";
import { Fault } from "../../ui/Fault.tsx";
import { plural } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { Part } from "../settings/Settings.tsx";
import { AddMember } from "./AddMember.tsx";
import { MemberRow } from "./MemberRow.tsx";
import { Roles } from "./Roles.tsx";
import { aRole, presence, stays } from "./words.ts";

const FIND_FROM = 10;
const AT_A_TIME = 100;
const HOME = "default";
const SEEN_EVERY_MS = 30_000;

/** Who belongs to the organisation and as what; changed by admins. */
export function Members({ me }: { me: Me }) {
  const { principal } = me;
  const own = principal.organisation ?? HOME;
  const admin = principal.scopes.includes("admin");
  const [chosen, choose] = useState(own);
  return (
    <div className="newsession">
      <Stack gap="lg" w="100%" maw={720} mt={0} mb="auto">
        <Group justify="space-between" align="flex-end">
          <Title order={1} fz={22}>
            Members
          </Title>
          {admin && own === HOME ? <Organisations value={chosen} onChange={choose} /> : null}
        </Group>
        {admin ? (
          <Everybody key={chosen} organisation={chosen} me={me} />
        ) : (
          <Text fz="sm" data-testid="members-refused">
            You are {aRole(principal.role ?? "viewer")} of this organisation. Its admins see who else belongs to it, and change roles: ask one of them.
          </Text>
        )}
        <Part title="What each role may do">
          <Roles own={principal.role} />
        </Part>
      </Stack>
    </div>
  );
}

/** The server's admins manage every organisation. */
function Organisations({ value, onChange }: { value: string; onChange: (id: string) => void }) {
  const found = useQuery({ queryKey: ["organisations"], queryFn: ({ signal }) => api.organisations(signal) });
  const items = found.data?.items ?? [];
  if (items.length < 2) return null;
  return <NativeSelect size="xs" label="Organisation" value={value} data={items.map((one) => ({ value: one.id, label: one.name }))} onChange={(event) => onChange(event.currentTarget.value)} data-testid="organisation" />;
}

function Everybody({ organisation, me }: { organisation: string; me: Me }) {
  const queries = useQueryClient();
  const home = organisation === (me.principal.organisation ?? HOME);
  const found = useQuery({ queryKey: ["members", organisation], queryFn: ({ signal }) => api.members(organisation, signal) });
  const signIns = useQuery({ queryKey: ["signins"], queryFn: ({ signal }) => api.signIns(signal), enabled: home, refetchInterval: SEEN_EVERY_MS });
  const keys = useQuery({ queryKey: ["keys"], queryFn: ({ signal }) => api.keys(signal), enabled: home });
  const providers = useQuery({ queryKey: ["providers"], queryFn: ({ signal }) => api.providers(signal), staleTime: Infinity });
  const refresh = async (): Promise<void> => {
    // Whoever has changed their own role may see no list any more: that is no fault of the change.
    await Promise.all(["members", "me", "signins", "keys"].map((key) => queries.invalidateQueries({ queryKey: [key] })));
  };
  const members = found.data?.items;
  const vouching = providers.data?.items.map((one) => one.label) ?? [];
  const seen = (one: Member): string | undefined =>
    signIns.data && keys.data ? presence(one, signIns.data.items, keys.data.items) : undefined;
  return (
    <>
      {members ? (
        <Part title="Add a member">
          <AddMember organisation={organisation} members={members} onChange={refresh} />
          {vouching.length > 0 ? (
            <Text fz="sm" c="dimmed">
              Whoever signs in with {vouching.join(" or ")} is a member by it. The groups there say the role, anew with each sign-in; who is removed here comes back by it, who is disabled does not.
            </Text>
          ) : null}
        </Part>
      ) : null}
      <Part title={members ? plural(members.length, "member") : "Members"}>
        <Fault error={found.error} again={() => void found.refetch()} />
        {found.isPending ? (
          <Group gap={8} fz="sm" c="dimmed" role="status">
            <Loader size={14} /> Reading…
          </Group>
        ) : null}
        {members ? (
          <List members={members} row={(one) => <MemberRow key={one.account} member={one} own={home && one.account === me.principal.account} fixed={stays(one, members)} seen={seen(one)} onChange={refresh} />} />
        ) : null}
      </Part>
    </>
  );
}

function List({ members, row }: { members: readonly Member[]; row: (one: Member) => React.ReactNode }) {
  const [typed, setTyped] = useState("");
  const [shown, show] = useState(AT_A_TIME);
  const wanted = typed.trim().toLowerCase();
  const found = members.filter((one) => `${one.account} ${one.name} ${one.role}`.toLowerCase().includes(wanted));
  return (
    <>
      {members.length >= FIND_FROM ? <TextInput size="xs" label="Find" placeholder="Name, account or role" value={typed} onChange={(event) => setTyped(event.currentTarget.value)} data-testid="find-member" /> : null}
      {found.length === 0 ? (
        <Text fz="sm" role="status">
          {members.length === 0 ? "Nobody belongs to this organisation yet: add its first admin." : "None is called so."}
        </Text>
      ) : null}
      <ul className="entries" aria-label="Members">
        {found.slice(0, shown).map(row)}
      </ul>
      {found.length > shown ? (
        <Button variant="default" size="xs" w="fit-content" onClick={() => show(shown + AT_A_TIME)} data-testid="more-members">
          Show more
        </Button>
      ) : null}
    </>
  );
}
