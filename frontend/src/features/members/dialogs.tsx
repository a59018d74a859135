import { Alert, Button, Group, Modal, Radio, Stack, Text, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import type { Member, Role } from "../../net/people.ts";
import { plain } from "../../protocol/reveal.ts";
import { Confirm } from "../../ui/Confirm.tsx";
import { Fault } from "../../ui/Fault.tsx";
import { Secret } from "../../ui/Secret.tsx";
import { clock } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { ROLES } from "./words.ts";

export interface Doing {
  member: Member;
  /** It is the reader's own account. */
  own: boolean;
  onClose: () => void;
  onChange: () => Promise<void>;
}

export function ChangeMember({ member, own, fixed, onClose, onChange }: Doing & { fixed: string | undefined }) {
  const [name, setName] = useState(member.name);
  const [role, setRole] = useState<Role>(member.role);
  const saving = useMutation({
    mutationFn: () =>
      api.putMember(member.organisation, member.account, {
        ...(name.trim() === member.name ? {} : { name: name.trim() }),
        ...(role === member.role ? {} : { role }),
      }),
    onSuccess: async () => {
      await onChange();
      onClose();
    },
  });
  const same = role === member.role && name.trim() === member.name;
  return (
    <Modal opened onClose={onClose} title={`Change ${plain(member.name)}`} centered closeButtonProps={{ "aria-label": "Close" }}>
      <form onSubmit={(event) => (event.preventDefault(), saving.mutate())}>
        <Stack>
          <TextInput label="Name" value={name} maxLength={100} onChange={(event) => setName(event.currentTarget.value)} data-testid="member-name" />
          <Radio.Group label="Role" {...(fixed ? { description: fixed } : {})} value={role} onChange={(value) => setRole(value)}>
            <Stack gap={10} mt={8}>
              {ROLES.map((one) => (
                <Radio key={one.value} value={one.value} label={one.label} description={one.may} disabled={fixed !== undefined} data-testid={`role-${one.value}`} />
              ))}
            </Stack>
          </Radio.Group>
          {own && role !== "admin" ? (
            <Alert className="limit" color="orange" variant="light" role="status">
              This is your own account: you would manage members and keys no more, and could not undo it yourself.
            </Alert>
          ) : null}
          <Fault error={saving.error} />
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={saving.isPending} disabled={same || name.trim() === ""} data-testid="member-save">
              Save
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

export function RemoveMember({ member, own, onClose, onChange }: Doing) {
  return (
    <Confirm title={own ? "Remove yourself?" : "Remove the member?"} act="Remove" onClose={onClose} doing={() => api.removeMember(member.organisation, member.account).then(onChange)}>
      The sign-ins, keys, key pairs and share links of “{plain(member.name)}” end at once and cannot be brought back. The sessions stay; admins have every right in them.
      {own ? " This is your own account: you will be signed out." : ""}
    </Confirm>
  );
}

/** For those who come without a provider. */
export function SignInLink({ member, onClose }: Omit<Doing, "onChange" | "own">) {
  const making = useMutation({ mutationFn: () => api.makeTicket(member.organisation, member.account), gcTime: 0 });
  return (
    <Modal opened onClose={onClose} title={`Sign-in link for ${plain(member.name)}`} centered closeButtonProps={{ "aria-label": "Close" }}>
      <Stack>
        <Text fz="sm">Whoever opens it first is signed in as this member. It works once, within 10 minutes. Give it to nobody else.</Text>
        <Fault error={making.error} />
        {making.data ? (
          <Secret title={`Copy the link now: it ends at ${clock(making.data.expiresAt)}`} parts={[{ name: "Sign-in link", value: making.data.url, testid: "ticket-url" }]} onClose={onClose} />
        ) : (
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button loading={making.isPending} onClick={() => making.mutate()} data-autofocus data-testid="ticket-make">
              Make the link
            </Button>
          </Group>
        )}
      </Stack>
    </Modal>
  );
}
