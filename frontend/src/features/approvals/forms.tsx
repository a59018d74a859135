import { Button, Group, Stack, Textarea } from "@mantine/core";
import { useEffect, useRef, useState } from "react";

function useFocus() {
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);
  return field;
}

export function DenyForm({ busy, onDeny, onCancel }: { busy: boolean; onDeny: (message: string) => void; onCancel: () => void }) {
  const [message, setMessage] = useState("");
  return (
    <Stack gap={8}>
      <Textarea ref={useFocus()} label="What the agent is told" autosize minRows={2} maxRows={8} maxLength={10_000} value={message} onChange={(event) => setMessage(event.currentTarget.value)} data-testid="deny-message" />
      <Group gap={8}>
        <Button size="sm" color="red" loading={busy} disabled={message.trim() === ""} onClick={() => onDeny(message.trim())} data-testid="deny-send">
          Deny
        </Button>
        <Button size="sm" variant="default" onClick={onCancel}>
          Back
        </Button>
      </Group>
    </Stack>
  );
}

/** The text as an object, or what is wrong with it. */
export function readInput(text: string): { input: Record<string, unknown> } | { fault: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { input: value as Record<string, unknown> };
    return { fault: "The input must be a JSON object." };
  } catch (error) {
    return { fault: error instanceof Error ? error.message : "This is not JSON." };
  }
}

export function EditForm({ input, busy, onApprove, onCancel }: { input: unknown; busy: boolean; onApprove: (input: unknown) => void; onCancel: () => void }) {
  const [text, setText] = useState(() => JSON.stringify(input, null, 2));
  const read = readInput(text);
  return (
    <Stack gap={8}>
      <Textarea ref={useFocus()} label="Input as JSON" autosize minRows={4} maxRows={20} spellCheck={false} value={text} error={"fault" in read ? read.fault : undefined} onChange={(event) => setText(event.currentTarget.value)} styles={{ input: { fontFamily: "var(--mantine-font-family-monospace)", fontSize: 13 } }} data-testid="edit-json" />
      <Group gap={8}>
        <Button size="sm" loading={busy} disabled={"fault" in read} onClick={() => "input" in read && onApprove(read.input)} data-testid="approve-edited">
          Approve the edited input
        </Button>
        <Button size="sm" variant="default" onClick={onCancel}>
          Back
        </Button>
      </Group>
    </Stack>
  );
}
