import { ActionIcon, Menu } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Ellipsis, KeyRound, Pencil, Square, Trash2 } from "lucide-react";
import { lazy, Suspense, useRef, useState } from "react";
import type { ReactNode } from "react";
import type { Session } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { plain } from "../../protocol/reveal.ts";
import { goOn } from "../../ui/goOn.ts";
import { api, client } from "../../wiring.ts";
import { ALL_RIGHTS } from "../sharing/rights.ts";
import { DeleteSession, RenameSession } from "./dialogs.tsx";

const SessionSecrets = lazy(async () => ({ default: (await import("../secrets/SessionSecrets.tsx")).SessionSecrets }));

interface Props {
  one: Session;
  onGone: () => void;
  className?: string;
  /** Stands above the actions. */
  children?: ReactNode;
}

/** What can be done with a session, in its row and above its log. */
export function SessionMenu({ one, onGone, className, children }: Props) {
  const queries = useQueryClient();
  const [dialog, open] = useState<"rename" | "secrets" | "delete">();
  const rights = one.rights ?? ALL_RIGHTS;
  const opener = useRef<HTMLButtonElement>(null);
  /** The menu, which had the focus, is gone. */
  const close = (): void => (open(undefined), goOn(() => opener.current));
  const stop = (): void => {
    api.stopSession(one.id).then(
      () => queries.invalidateQueries({ queryKey: ["sessions"] }),
      (error: unknown) => client.say(sayError(error)),
    );
  };
  return (
    <>
      <Menu position="bottom-end" withInitialFocusPlaceholder={false} withinPortal shadow="md">
        <Menu.Target>
          <ActionIcon ref={opener} {...(className ? { className } : {})} variant="subtle" color="gray" size={className ? "sm" : "md"} aria-label={`More for ${plain(one.title) || "Untitled session"}`} data-testid={className ? "row-menu" : "session-menu"}>
            <Ellipsis size={className ? 16 : 18} />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          {children}
          <Menu.Item leftSection={<Pencil size={14} />} onClick={() => open("rename")} disabled={!rights.includes("run")} data-testid="rename">
            Rename…
          </Menu.Item>
          {rights.includes("run") ? (
            <Menu.Item leftSection={<KeyRound size={14} />} onClick={() => open("secrets")} data-testid="session-secrets">
              Secrets…
            </Menu.Item>
          ) : null}
          <Menu.Item leftSection={<Square size={14} />} onClick={stop} disabled={!rights.includes("run") || one.state === "stopped" || one.state === "new"}>
            Stop its processes
          </Menu.Item>
          <Menu.Divider />
          <Menu.Item data-danger leftSection={<Trash2 size={14} />} onClick={() => open("delete")} disabled={!rights.includes("admin")} data-testid="delete">
            Delete…
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      {dialog === "rename" ? <RenameSession session={one} onClose={close} /> : null}
      <Suspense>{dialog === "secrets" ? <SessionSecrets session={one} onClose={close} /> : null}</Suspense>
      {dialog === "delete" ? <DeleteSession session={one} onClose={close} onGone={onGone} /> : null}
    </>
  );
}
