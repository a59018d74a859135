import { ActionIcon, Badge, Menu, Text } from "@mantine/core";
import { Ban, CircleCheck, Ellipsis, Link2, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import type { Member } from "../../net/people.ts";
import { sayError } from "../../net/http.ts";
import { plain } from "../../protocol/reveal.ts";
import { Exact } from "../../ui/Exact.tsx";
import { api, client } from "../../wiring.ts";
import { ChangeMember, RemoveMember, SignInLink } from "./dialogs.tsx";
import { roleWord } from "./words.ts";

interface Props {
  member: Member;
  own: boolean;
  /** Why it has to stay as it is. */
  fixed: string | undefined;
  /** When it was here; unknown of another organisation. */
  seen: string | undefined;
  onChange: () => Promise<void>;
}

export function MemberRow({ member, own, fixed, seen, onChange }: Props) {
  const [dialog, open] = useState<"change" | "link" | "remove">();
  const close = (): void => open(undefined);
  const disable = (disabled: boolean): void => {
    api.putMember(member.organisation, member.account, { disabled }).then(onChange, (error: unknown) => client.say(sayError(error)));
  };
  const doing = { member, own, onClose: close, onChange };
  return (
    <li data-testid="member-row" data-account={member.account} data-disabled={member.disabled}>
      <div className="what">
        <Text fz="sm" fw={500} span>
          <Exact text={member.name} />
          {own ? <span className="quiet"> (you)</span> : null}
        </Text>
        {member.name === member.account ? null : (
          <Text fz="xs" c="dimmed">
            <Exact text={member.account} />
          </Text>
        )}
        {seen ? (
          <Text fz="xs" c="dimmed" data-testid="member-seen">
            {seen}
          </Text>
        ) : null}
        {fixed ? (
          <Text fz="xs" c="dimmed">
            {fixed}
          </Text>
        ) : null}
      </div>
      <div className="marks">
        {member.disabled ? (
          <Badge size="sm" variant="light" color="orange">
            disabled
          </Badge>
        ) : null}
        <Badge size="sm" variant="light" color={member.role === "admin" ? "helm" : "gray"} data-testid="member-role">
          {roleWord(member.role)}
        </Badge>
      </div>
      <Menu position="bottom-end" withInitialFocusPlaceholder={false} withinPortal shadow="md">
        <Menu.Target>
          <ActionIcon variant="subtle" color="gray" aria-label={`More for ${plain(member.name)}`} data-testid="member-menu">
            <Ellipsis size={18} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<Pencil size={14} />} onClick={() => open("change")} data-testid="member-change">
            Change…
          </Menu.Item>
          <Menu.Item leftSection={<Link2 size={14} />} onClick={() => open("link")} disabled={member.disabled} data-testid="member-link">
            Sign-in link…
          </Menu.Item>
          <Menu.Item leftSection={member.disabled ? <CircleCheck size={14} /> : <Ban size={14} />} onClick={() => disable(!member.disabled)} disabled={fixed !== undefined || own} data-testid="member-disable">
            {member.disabled ? "Enable" : "Disable"}
          </Menu.Item>
          <Menu.Divider />
          <Menu.Item data-danger leftSection={<Trash2 size={14} />} onClick={() => open("remove")} disabled={fixed !== undefined} data-testid="member-remove">
            Remove…
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      {dialog === "change" ? <ChangeMember {...doing} fixed={fixed} /> : null}
      {dialog === "link" ? <SignInLink member={member} onClose={close} /> : null}
      {dialog === "remove" ? <RemoveMember {...doing} /> : null}
    </li>
  );
}
