import { Alert, Button, Group, NativeSelect, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import type { Member, Role } from "../../net/people.ts";
import { plain } from "../../protocol/reveal.ts";
import { Fault } from "../../ui/Fault.tsx";
import { api } from "../../wiring.ts";
import { SignInLink } from "./dialogs.tsx";
import { ROLES, aRole, refuseAccount } from "./words.ts";

export function AddMember({ organisation, members, onChange }: { organisation: string; members: readonly Member[]; onChange: () => Promise<void> }) {
  const [account, setAccount] = useState("");
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("operator");
  const [wrong, setWrong] = useState<string>();
  const [linking, link] = useState(false);
  const adding = useMutation({
    mutationFn: () => api.putMember(organisation, account.trim(), { role, ...(name.trim() ? { name: name.trim() } : {}) }),
    onSuccess: async () => {
      setAccount("");
      setName("");
      await onChange();
    },
  });
  const add = (): void => {
    const refusal = refuseAccount(account.trim(), members);
    setWrong(refusal);
    if (refusal === undefined) adding.mutate();
  };
  const made = adding.data;
  return (
    <>
      <form className="addform" onSubmit={(event) => (event.preventDefault(), add())} aria-label="Add a member">
        <TextInput size="xs" label="Account" description="Such as a mail address" value={account} maxLength={200} error={wrong} required withAsterisk={false} autoCapitalize="none" spellCheck={false} onChange={(event) => (setAccount(event.currentTarget.value), setWrong(undefined))} data-testid="add-account" />
        <TextInput size="xs" label="Name" description="What others read" value={name} maxLength={100} onChange={(event) => setName(event.currentTarget.value)} data-testid="add-name" />
        <NativeSelect size="xs" label="Role" description="Explained below" value={role} data={ROLES.map(({ value, label }) => ({ value, label }))} onChange={(event) => setRole(event.currentTarget.value as Role)} data-testid="add-role" />
        <Button type="submit" size="xs" disabled={account.trim() === ""} loading={adding.isPending} data-testid="add-member">
          Add
        </Button>
      </form>
      <Fault error={adding.error} />
      {made ? (
        <Alert className="good" color="teal" variant="light" role="status" withCloseButton closeButtonLabel="Close" onClose={() => adding.reset()} data-testid="added">
          <Group gap="sm">
            <span>
              {plain(made.name)} is {aRole(made.role)} now.
            </span>
            <Button size="compact-xs" variant="default" onClick={() => link(true)} data-testid="added-link">
              Sign-in link…
            </Button>
          </Group>
        </Alert>
      ) : null}
      {made && linking ? <SignInLink member={made} onClose={() => link(false)} /> : null}
    </>
  );
}
